-- suspect_take: takes over jobs that a worker, which has ended, left picked. They keep their seats.
-- $1 uuid    the worker that has ended
-- $2 uuid    who takes them over
-- $3 int8[]  ids
-- > id int8    those that were still there
-- locks: the rows
-- index: {queue}_queue_manager_id_idx, the primary key
-- log: picked, one a job
-- notify: none (the trigger is silent on UPDATE)
WITH mine AS MATERIALIZED (
    SELECT q.id
    FROM :queue AS q
    WHERE q.queue_manager_id = $1 AND q.status = 'picked' AND q.id = ANY ($3::int8[])
    ORDER BY q.id
    FOR UPDATE
), taken AS (
    UPDATE :queue AS q
    SET queue_manager_id = $2, updated = now(), heartbeat = now()
    WHERE q.id = ANY (ARRAY(SELECT id FROM mine))
    RETURNING q.id, q.priority, q.entrypoint
), logged AS (
    INSERT INTO :log (job_id, status, priority, entrypoint)
    SELECT id, 'picked', priority, entrypoint FROM taken ORDER BY id
)
SELECT id FROM taken ORDER BY id
