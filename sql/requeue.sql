-- requeue: puts held jobs back into the queue, due at once, as if they had never run. All or none: a
-- dedupe key that an active job has taken meanwhile fails the statement.
-- $1 int8[]  ids
-- $2 bool    whether it is logged
-- > id int8    the jobs that were held and are queued now
-- locks: the rows, in the order of their ids
-- index: the primary key; {queue}_unique_dedupe_key refuses
-- log: queued, one a job, if it is to be logged
-- notify: table_changed_event update, once, if any was requeued
WITH held AS MATERIALIZED (
    SELECT q.id
    FROM :queue AS q
    WHERE q.id = ANY ($1) AND q.status = 'failed'
    ORDER BY q.id
    FOR UPDATE
), requeued AS (
    UPDATE :queue AS q
    SET status = 'queued', execute_after = now(), attempts = 0, updated = now(),
        queue_manager_id = NULL, slot = NULL
    WHERE q.id = ANY (ARRAY(SELECT id FROM held))
    RETURNING q.id, q.priority, q.entrypoint
), logged AS (
    INSERT INTO :log (job_id, status, priority, entrypoint)
    SELECT id, 'queued', priority, entrypoint FROM requeued WHERE $2 ORDER BY id
), told AS MATERIALIZED (
    SELECT pg_notify(:channel_literal,
                     json_build_object('channel', :channel_literal, 'operation', 'update',
                                       'sent_at', now(), 'table', :queue_name_literal,
                                       'type', 'table_changed_event')::text)
    FROM (SELECT FROM requeued LIMIT 1) AS any_requeued
)
SELECT requeued.id::int8 FROM requeued LEFT JOIN told ON true ORDER BY requeued.id
