-- resolve: settle_lease for jobs whose lease was lost: each row is locked again, and counts while it is as
-- the lease left it, queued, with its `updated` and its attempts, or, where the settle of the lease may
-- have been carried out, picked by this worker. Whoever has it locked is waited for, but not for ever.
-- $1 int8[]         ids, each once
-- $2 timestamptz[]  `updated` when they were leased
-- $3 int4[]         attempts, likewise
-- $4 bool[]         whether the settle of the lease may have been carried out
-- $5 uuid           this worker
-- $6 text[]         statuses, as for settle_lease
-- $7 int8[]         for queued: delay in milliseconds
-- $8 jsonb[]        tracebacks, NULL for none
-- $9 timestamptz[]  when they were leased
-- $10 bool[]        whether the log gets a `picked` row
-- $11 bool[]        whether the log gets a row of the job's end, or of its retry
-- $12 text          how long to wait for a lock, such as 500ms
-- > ord int8, updated timestamptz    the places in the arrays of the jobs that were written, and the
-- >                                  proofs of the claims of those that run on; the others are lost
-- locks: the rows, in the order of their ids
-- index: the primary key
-- log: up to two a job
-- counted: what is logged and what is successful, into the counts; such log rows count as aggregated
-- notify: table_changed_event delete, by the trigger, once; update, once, if any is retried
WITH input AS MATERIALIZED (
    SELECT i.*
    FROM unnest($1::int8[], $2::timestamptz[], $3::int4[], $4::bool[], $6::text[], $7::int8[],
                $8::jsonb[], $9::timestamptz[], $10::bool[], $11::bool[])
             WITH ORDINALITY AS i (id, token, attempts, uncertain, status, delay_ms, traceback, picked,
                                   log_picked, log_end, ord)
), locked AS MATERIALIZED (
    SELECT q.id, q.updated, q.attempts, q.status, q.queue_manager_id, q.entrypoint, q.priority
    FROM :queue AS q
    WHERE q.id = ANY ($1) AND (SELECT set_config('lock_timeout', $12, true)) IS NOT NULL
    ORDER BY q.id
    FOR UPDATE
), matched AS MATERIALIZED (
    SELECT input.ord, input.id, input.status, input.delay_ms, input.traceback, input.picked,
           input.log_picked AND locked.status = 'queued' AS log_picked, input.log_end,
           locked.entrypoint, locked.priority
    FROM input
    JOIN locked ON locked.id = input.id AND locked.attempts = input.attempts
    WHERE (locked.status = 'queued' AND locked.updated = input.token)
          OR (input.uncertain AND locked.status = 'picked' AND locked.queue_manager_id = $5)
), gone AS (
    DELETE FROM :queue AS q
    WHERE q.id = ANY (ARRAY(SELECT id FROM matched WHERE status NOT IN ('failed', 'queued', 'picked')))
), held AS (
    UPDATE :queue AS q
    SET status = 'failed', updated = now(), queue_manager_id = NULL, slot = NULL
    WHERE q.id = ANY (ARRAY(SELECT id FROM matched WHERE status = 'failed'))
), delays AS MATERIALIZED (
    SELECT array_agg(id ORDER BY ord) AS ids, array_agg(delay_ms ORDER BY ord) AS delays_ms
    FROM matched
    WHERE status = 'queued'
), retried AS (
    UPDATE :queue AS q
    SET status = 'queued', attempts = q.attempts + 1, updated = now(), queue_manager_id = NULL,
        slot = NULL,
        execute_after = now() + (SELECT d.delays_ms[array_position(d.ids, q.id)] FROM delays AS d)
                                    * interval '1 millisecond'
    WHERE q.id = ANY (ARRAY(SELECT id FROM matched WHERE status = 'queued'))
    RETURNING pg_notify(:channel_literal, -- what is equal in a transaction is sent once
                        json_build_object('channel', :channel_literal, 'operation', 'update',
                                          'sent_at', now(), 'table', :queue_name_literal,
                                          'type', 'table_changed_event')::text)
), kept AS (
    UPDATE :queue AS q
    SET status = 'picked', queue_manager_id = $5, heartbeat = clock_timestamp(), slot = NULL,
        updated = CASE WHEN q.status = 'queued' THEN clock_timestamp() ELSE q.updated END
    WHERE q.id = ANY (ARRAY(SELECT id FROM matched WHERE status = 'picked'))
    RETURNING q.id, q.updated
), line AS MATERIALIZED (
    SELECT picked AS created, ord, 1 AS step, id, 'picked' AS status, priority, entrypoint,
           NULL::jsonb AS traceback, true AS logged
    FROM matched
    WHERE log_picked
    UNION ALL
    SELECT now(), ord, 2, id, status, priority, entrypoint, traceback, log_end
    FROM matched
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
SELECT matched.ord, kept.updated
FROM matched LEFT JOIN kept ON kept.id = matched.id
ORDER BY matched.ord
