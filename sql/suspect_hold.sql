-- suspect_hold: holds a job that kills its workers.
-- $1 uuid   under which it is picked
-- $2 int8   the job
-- $3 text   its traceback as JSON, but for the entrypoint, which is put in here
-- > ord int8    1, if it was still picked so
-- locks: the row
-- index: the primary key
-- log: failed, with the traceback
-- notify: none (the trigger is silent on UPDATE)
WITH held AS (
    UPDATE :queue AS q
    SET status = 'failed', updated = now(), queue_manager_id = NULL, slot = NULL
    WHERE q.id = $2 AND q.queue_manager_id = $1 AND q.status = 'picked'
    RETURNING q.id, q.priority, q.entrypoint
), logged AS (
    INSERT INTO :log (job_id, status, priority, entrypoint, traceback)
    SELECT id, 'failed', priority, entrypoint,
           jsonb_set($3::jsonb, '{additional_context,entrypoint}', to_jsonb(entrypoint))
    FROM held
)
SELECT 1::int8 AS ord FROM held
