-- announce: tells the fleet that the queue has changed: jobs have become free without a change of their
-- rows, or are done and their deletes were not told. NOTIFY holds a lock of the whole server while its
-- transaction commits, so this one does not wait for the disk.
-- $1 text  update, delete
-- > told text    nothing of use
-- locks: none
-- index: none
-- log: none
-- notify: table_changed_event $1
SELECT set_config('synchronous_commit', 'off', true) ||
       pg_notify(:channel_literal,
                 json_build_object('channel', :channel_literal, 'operation', $1::text,
                                   'sent_at', now(), 'table', :queue_name_literal,
                                   'type', 'table_changed_event')::text)::text AS told
