-- claim_row: claims due jobs on the row lane, for a worker whose entrypoints have neither limits nor
-- rates nor retry timers. With $5 given also the jobs whose worker went silent, except those that
-- this worker runs itself.
-- $1 int4    jobs wanted
-- $2 text[]  entrypoints
-- $3 uuid    this worker
-- $4 int8    heartbeat timeout in milliseconds
-- $5 int8[]  ids of the jobs that this worker has; NULL: fresh jobs only
-- $6 text[]  entrypoints of which no claim is logged
-- > id int8, updated timestamptz, priority int4, attempts int4, entrypoint text, payload bytea,
-- > headers jsonb    in the order (priority DESC, id)
-- locks: the rows, SKIP LOCKED
-- index: {queue}_ep_prio_id_idx, {queue}_picked_heartbeat_idx, the primary key
-- log: picked, one a job, but for those of $6
-- counted: what is logged, into the counts; such log rows count as aggregated
-- notify: none (the trigger is silent on UPDATE)
WITH fresh AS MATERIALIZED (
    SELECT due.id, due.priority
    FROM unnest($2::text[]) AS e (entrypoint)
    CROSS JOIN LATERAL (
        SELECT q.id, q.priority
        FROM :queue AS q
        WHERE q.entrypoint = ANY (ARRAY[e.entrypoint]) AND q.status = 'queued' AND q.execute_after <= now()
        ORDER BY q.entrypoint, q.priority DESC, q.id
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    ) AS due
), stale AS MATERIALIZED (
    SELECT q.id, q.priority
    FROM :queue AS q
    WHERE $5::int8[] IS NOT NULL
          AND q.id = ANY (ARRAY(SELECT s.id
                                FROM :queue AS s
                                WHERE s.status = 'picked' AND s.entrypoint = ANY ($2) AND s.id <> ALL ($5)
                                      AND s.heartbeat < now() - $4 * interval '1 millisecond'
                                ORDER BY s.heartbeat)) -- so that no other index fits
          AND q.status::text = 'picked' AND q.heartbeat < now() - $4 * interval '1 millisecond'
    ORDER BY q.priority DESC, q.id
    LIMIT $1
    FOR UPDATE SKIP LOCKED
), chosen AS MATERIALIZED (
    SELECT id
    FROM (SELECT * FROM fresh UNION ALL SELECT * FROM stale) AS c
    ORDER BY priority DESC, id
    LIMIT $1
), claimed AS (
    UPDATE :queue AS q
    SET status = 'picked', queue_manager_id = $3, updated = now(), heartbeat = now(),
        slot = CASE WHEN q.status = 'picked' THEN q.slot END
    WHERE q.id = ANY (ARRAY(SELECT id FROM chosen))
    RETURNING q.id, q.updated, q.priority, q.attempts, q.entrypoint, q.payload, q.headers
), logged AS (
    INSERT INTO :log (job_id, status, priority, entrypoint, aggregated)
    SELECT id, 'picked', priority, entrypoint, false -- uncounted
    SELECT id, 'picked', priority, entrypoint, true -- counted
    FROM claimed
    WHERE entrypoint <> ALL ($6::text[])
    ORDER BY priority DESC, id
), counts AS ( -- counted
    INSERT INTO :counts (statistics, second, entrypoint, priority, status, count) -- counted
    SELECT :statistics_literal::regclass, date_trunc('sec', now(), 'UTC'), entrypoint, -- counted
           priority, 'picked', count(*) -- counted
    FROM claimed -- counted
    WHERE entrypoint <> ALL ($6) -- counted
    GROUP BY entrypoint, priority -- counted
)
SELECT id, updated, priority, attempts, entrypoint, payload, headers
FROM claimed
ORDER BY priority DESC, id
