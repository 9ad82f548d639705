-- adopt_row: takes the jobs that are picked for this worker and that it does not know of, since the
-- reply to its claim was lost. A claim that the server has not carried out yet when its connection is
-- lost may still be: as long as a ghost, the backend of such a connection, lives, there may be more.
-- $1 int4    jobs wanted
-- $2 text[]  entrypoints
-- $3 uuid    this worker
-- $4 int8[]  ids of the jobs that this worker has
-- $5 int8    only this job; NULL: all of them
-- $6 int8[]  ghosts, as process ids
-- $7 text[]  entrypoints of which no claim is logged
-- > id int8, updated timestamptz, priority int4, attempts int4, entrypoint text, payload bytea,
-- > headers jsonb    in the order (priority DESC, id)
-- > ghost int8       in a row without a job: the place in $6 of a ghost that lives
-- locks: the rows, SKIP LOCKED
-- index: {queue}_queue_manager_id_idx, the primary key
-- log: picked, one a job, but for those of $7
-- counted: what is logged, into the counts; such log rows count as aggregated
-- notify: none (the trigger is silent on UPDATE)
WITH chosen AS MATERIALIZED (
    SELECT q.id
    FROM :queue AS q
    WHERE q.queue_manager_id = $3
          AND q.status::text = 'picked' -- as text: so that no other index fits
          AND q.entrypoint = ANY ($2::text[])
          AND q.id <> ALL ($4::int8[]) AND ($5::int8 IS NULL OR q.id = $5)
    ORDER BY q.priority DESC, q.id
    LIMIT $1
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE :queue AS q
    SET updated = now(), heartbeat = now()
    WHERE q.id = ANY (ARRAY(SELECT id FROM chosen))
    RETURNING q.id, q.updated, q.priority, q.attempts, q.entrypoint, q.payload, q.headers
), logged AS (
    INSERT INTO :log (job_id, status, priority, entrypoint, aggregated)
    SELECT id, 'picked', priority, entrypoint, false -- uncounted
    SELECT id, 'picked', priority, entrypoint, true -- counted
    FROM claimed
    WHERE entrypoint <> ALL ($7::text[])
    ORDER BY priority DESC, id
), counts AS ( -- counted
    INSERT INTO :counts (statistics, second, entrypoint, priority, status, count) -- counted
    SELECT :statistics_literal::regclass, date_trunc('sec', now(), 'UTC'), entrypoint, -- counted
           priority, 'picked', count(*) -- counted
    FROM claimed -- counted
    WHERE entrypoint <> ALL ($7) -- counted
    GROUP BY entrypoint, priority -- counted
)
SELECT id, updated, priority, attempts, entrypoint, payload, headers, NULL::int8 AS ghost
FROM claimed
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, g.place
FROM unnest($6::int8[]) WITH ORDINALITY AS g (pid, place)
JOIN pg_stat_get_backend_idset() AS b (id) ON pg_stat_get_backend_pid(b.id) = g.pid
ORDER BY priority DESC, id
