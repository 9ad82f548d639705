-- enqueue_find: whether jobs that one transaction inserted are there, in the queue or by their first log row.
-- $1 int8[]       the jobs' ids
-- $2 timestamptz  when the transaction began: without it, an id that was given out twice could deceive
-- > found bool
-- locks: none
-- index: the queue's primary key, {log}_job_id_status
-- log: none
-- notify: none
SELECT EXISTS (SELECT FROM :queue WHERE id = ANY ($1::int8[]) AND created = $2::timestamptz)
       OR EXISTS (SELECT FROM :log
                  WHERE job_id = ANY ($1::int8[]) AND created = $2::timestamptz AND status = 'queued')
       AS found
