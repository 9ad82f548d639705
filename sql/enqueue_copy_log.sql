-- enqueue_copy_log: the log rows of the jobs of enqueue_copy that are to be logged.
-- locks: RowExclusive on log
-- log: queued, one a job
-- notify: none
COPY :log (job_id, status, priority, entrypoint) FROM STDIN (FORMAT binary)
