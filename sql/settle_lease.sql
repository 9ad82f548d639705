-- settle_lease: writes what became of leased jobs, in their transaction. A job that still runs becomes a
-- picked one of this worker. Times are those of the claim (now(), the transaction's beginning) for
-- `picked` log rows, and the clock's for everything else.
-- $1 int8[]   ids, each once, of rows which the transaction has locked
-- $2 uuid     this worker
-- $3 text[]   successful, exception, canceled: the row goes; failed: it is held; queued: it is retried;
--             picked: the job runs on
-- $4 int8[]   for queued: delay in milliseconds
-- $5 jsonb[]  tracebacks, NULL for none
-- $6 bool[]   whether the log gets a `picked` row
-- $7 bool[]   whether the log gets a row of the job's end, or of its retry
-- > ord int8, updated timestamptz    the places in the arrays of the jobs that run on, and the proofs of
-- >                                  their claims
-- locks: none that the transaction does not have
-- index: the primary key
-- log: up to two a job
-- counted: what is logged and what is successful, into the counts; such log rows count as aggregated
-- notify: table_changed_event delete, by the trigger, with the commit; update, if any is retried
/* pgqueuer lease */
WITH input AS MATERIALIZED (
    SELECT i.ord, i.id, i.status, i.delay_ms, i.traceback, i.log_picked, i.log_end
    FROM unnest($1::int8[], $3::text[], $4::int8[], $5::jsonb[], $6::bool[], $7::bool[])
             WITH ORDINALITY AS i (id, status, delay_ms, traceback, log_picked, log_end, ord)
), rows AS MATERIALIZED (
    SELECT q.id, q.entrypoint, q.priority
    FROM :queue AS q
    WHERE q.id = ANY ($1)
), job AS MATERIALIZED (
    SELECT input.*, rows.entrypoint, rows.priority FROM input JOIN rows ON rows.id = input.id
), gone AS (
    DELETE FROM :queue AS q
    WHERE q.id = ANY (ARRAY(SELECT id FROM input WHERE status NOT IN ('failed', 'queued', 'picked')))
), held AS (
    UPDATE :queue AS q
    SET status = 'failed', updated = clock_timestamp(), queue_manager_id = NULL, slot = NULL
    WHERE q.id = ANY (ARRAY(SELECT id FROM input WHERE status = 'failed'))
), delays AS MATERIALIZED (
    SELECT array_agg(id ORDER BY ord) AS ids, array_agg(delay_ms ORDER BY ord) AS delays_ms
    FROM input
    WHERE status = 'queued'
), retried AS (
    UPDATE :queue AS q
    SET attempts = q.attempts + 1, updated = clock_timestamp(), slot = NULL,
        execute_after = clock_timestamp()
                            + (SELECT d.delays_ms[array_position(d.ids, q.id)] FROM delays AS d)
                                  * interval '1 millisecond'
    WHERE q.id = ANY (ARRAY(SELECT id FROM input WHERE status = 'queued'))
    RETURNING pg_notify(:channel_literal, -- what is equal in a transaction is sent once
                        json_build_object('channel', :channel_literal, 'operation', 'update',
                                          'sent_at', now(), 'table', :queue_name_literal,
                                          'type', 'table_changed_event')::text)
), demoted AS (
    UPDATE :queue AS q
    SET status = 'picked', queue_manager_id = $2, updated = clock_timestamp(),
        heartbeat = clock_timestamp(), slot = NULL
    WHERE q.id = ANY (ARRAY(SELECT id FROM input WHERE status = 'picked'))
    RETURNING q.id, q.updated
), line AS MATERIALIZED (
    SELECT now() AS created, ord, 1 AS step, id, 'picked' AS status, priority, entrypoint,
           NULL::jsonb AS traceback, true AS logged
    FROM job
    WHERE log_picked
    UNION ALL
    SELECT clock_timestamp(), ord, 2, id, status, priority, entrypoint, traceback, log_end
    FROM job
    WHERE (log_end OR status = 'successful') AND status <> 'picked'
), logged AS (
    INSERT INTO :log (created, job_id, status, priority, entrypoint, traceback, aggregated)
    SELECT created, id, status:::status, priority, entrypoint, traceback, false -- uncounted
    SELECT created, id, status:::status, priority, entrypoint, traceback, true -- counted
    FROM line
    WHERE logged
    ORDER BY step, ord
), counts AS ( -- counted
    INSERT INTO :counts (statistics, second, entrypoint, priority, status, count) -- counted
    SELECT :statistics_literal::regclass, l.second, l.entrypoint, l.priority, l.status, -- counted
           count(*) -- counted
    FROM (SELECT date_trunc('sec', created, 'UTC') AS second, entrypoint, priority, -- counted
                 status -- counted
          FROM line) AS l -- counted
    GROUP BY l.second, l.entrypoint, l.priority, l.status -- counted
)
SELECT input.ord, demoted.updated
FROM demoted JOIN input ON input.id = demoted.id
ORDER BY input.ord
