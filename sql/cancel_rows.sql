-- cancel_rows: takes away the jobs that no live worker runs: queued and held ones, and picked ones
-- whose worker went silent. The others are left to their workers, which have been told.
-- $1 int8[]  ids, each once
-- $2 int8    heartbeat timeout in milliseconds
-- > id int8, gone bool    the jobs that were there, in the order of ids; not gone: a worker has it
-- locks: the rows that go, in the order of ids
-- index: the primary key
-- log: canceled, one for each that is gone
-- notify: table_changed_event delete, by the trigger, once
WITH present AS MATERIALIZED (
    SELECT q.id FROM :queue AS q WHERE q.id = ANY ($1)
), free AS MATERIALIZED (
    SELECT q.id, q.priority, q.entrypoint
    FROM :queue AS q
    WHERE q.id = ANY ($1)
          AND (q.status IN ('queued', 'failed')
               OR (q.status = 'picked'
                   AND q.heartbeat < now() - $2 * interval '1 millisecond'))
    ORDER BY q.id
    FOR UPDATE
), gone AS (
    DELETE FROM :queue AS q
    WHERE q.id = ANY (ARRAY(SELECT id FROM free))
), logged AS (
    INSERT INTO :log (job_id, status, priority, entrypoint)
    SELECT id, 'canceled', priority, entrypoint FROM free ORDER BY id
)
SELECT present.id::int8, free.id IS NOT NULL AS gone
FROM present LEFT JOIN free ON free.id = present.id
ORDER BY present.id
