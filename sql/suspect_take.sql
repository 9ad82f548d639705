-- suspect_take: takes over jobs that a worker, which has ended, left picked. They keep their seats.
-- What was taken over by a call before, whose reply was lost, counts as taken too.
-- $1 uuid    the worker that has ended
-- $2 uuid    who takes them over
-- $3 int8[]  ids, each once
-- $4 bool    whether it is logged
-- > ord int8    the places in the array of those that were still there
-- locks: the rows
-- index: the primary key
-- log: picked, one a job that changed hands, if it is to be logged
-- notify: none (the trigger is silent on UPDATE)
WITH mine AS MATERIALIZED (
    SELECT q.id, q.queue_manager_id
    FROM :queue AS q
    WHERE q.id = ANY ($3::int8[]) AND q.status = 'picked' AND q.queue_manager_id IN ($1, $2)
    ORDER BY q.id
    FOR UPDATE
), taken AS (
    UPDATE :queue AS q
    SET queue_manager_id = $2, updated = now(), heartbeat = now()
    WHERE q.id = ANY (ARRAY(SELECT id FROM mine WHERE queue_manager_id = $1))
    RETURNING q.id, q.priority, q.entrypoint
), logged AS (
    INSERT INTO :log (job_id, status, priority, entrypoint)
    SELECT id, 'picked', priority, entrypoint FROM taken WHERE $4 ORDER BY id
)
SELECT i.ord
FROM unnest($3::int8[]) WITH ORDINALITY AS i (id, ord)
JOIN mine ON mine.id = i.id
ORDER BY i.ord
