-- enqueue_copy: the queue rows of many jobs; a taken dedupe key fails it all.
-- locks: RowExclusive on queue
-- log: none; see enqueue_copy_log
-- notify: table_changed_event insert, by the trigger
COPY :queue (id, priority, execute_after, status, entrypoint, dedupe_key, payload, headers)
FROM STDIN (FORMAT binary)
