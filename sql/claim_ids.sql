-- claim_ids: claims certain jobs on the row lane, if they are queued and due.
-- $1 int8[]  ids
-- $2 text[]  entrypoints
-- $3 uuid    this worker
-- $4 text[]  entrypoints of which no claim is logged
-- > id int8, updated timestamptz, priority int4, attempts int4, entrypoint text, payload bytea,
-- > headers jsonb    in the order (priority DESC, id)
-- locks: the rows, SKIP LOCKED
-- index: the primary key
-- log: picked, one a job, but for those of $4
-- counted: what is logged, into the counts; such log rows count as aggregated
-- notify: none (the trigger is silent on UPDATE)
WITH chosen AS MATERIALIZED (
    SELECT q.id
    FROM :queue AS q
    WHERE q.id = ANY ($1) AND q.entrypoint = ANY ($2::text[]) AND q.execute_after <= now()
          AND q.status::text = 'queued' -- as text: so that no index but the primary key fits
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE :queue AS q
    SET status = 'picked', queue_manager_id = $3, updated = now(), heartbeat = now(),
        slot = NULL
    WHERE q.id = ANY (ARRAY(SELECT id FROM chosen))
    RETURNING q.id, q.updated, q.priority, q.attempts, q.entrypoint, q.payload, q.headers
), logged AS (
    INSERT INTO :log (job_id, status, priority, entrypoint, aggregated)
    SELECT id, 'picked', priority, entrypoint, false -- uncounted
    SELECT id, 'picked', priority, entrypoint, true -- counted
    FROM claimed
    WHERE entrypoint <> ALL ($4::text[])
    ORDER BY priority DESC, id
), counts AS ( -- counted
    INSERT INTO :counts (statistics, second, entrypoint, priority, status, count) -- counted
    SELECT :statistics_literal::regclass, date_trunc('sec', now(), 'UTC'), entrypoint, -- counted
           priority, 'picked', count(*) -- counted
    FROM claimed -- counted
    WHERE entrypoint <> ALL ($4) -- counted
    GROUP BY entrypoint, priority -- counted
)
SELECT id, updated, priority, attempts, entrypoint, payload, headers
FROM claimed
ORDER BY priority DESC, id
