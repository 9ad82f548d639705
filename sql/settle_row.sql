-- settle_row: writes the outcomes of picked jobs. A job counts only while this worker's claim of it
-- stands: its row is picked, by this worker, with `updated` as the claim set it.
-- $1 int8[]         ids, each once
-- $2 timestamptz[]  `updated` of the claims
-- $3 uuid           this worker
-- $4 text[]         successful, exception, canceled: the row goes; failed: it is held; queued: it
--                   is retried
-- $5 int8[]         for queued: delay in milliseconds
-- $6 jsonb[]        tracebacks, NULL for none
-- $7 bool[]         whether it is logged
-- > ord int8    the places in the arrays of the jobs that were written; the others' claims are lost
-- locks: the rows, in the order of their ids
-- index: the primary key
-- log: one a job that is to be logged, with its traceback
-- counted: what is logged and what is successful, into the counts; such log rows count as aggregated
-- notify: table_changed_event delete, by the trigger, once; update, once, if any is retried
WITH input AS MATERIALIZED (
    SELECT i.ord, i.id, i.token, i.status, i.delay_ms, i.traceback, i.logged
    FROM unnest($1::int8[], $2::timestamptz[], $4::text[], $5::int8[], $6::jsonb[], $7::bool[])
             WITH ORDINALITY AS i (id, token, status, delay_ms, traceback, logged, ord)
), locked AS MATERIALIZED (
    SELECT q.id, q.updated, q.entrypoint, q.priority
    FROM :queue AS q
    WHERE q.id = ANY ($1) AND q.status = 'picked' AND q.queue_manager_id = $3
    ORDER BY q.id
    FOR UPDATE
), matched AS MATERIALIZED (
    SELECT input.ord, input.id, input.status, input.delay_ms, input.traceback, input.logged,
           locked.entrypoint, locked.priority
    FROM input JOIN locked ON locked.id = input.id AND locked.updated = input.token
), gone AS (
    DELETE FROM :queue AS q
    WHERE q.id = ANY (ARRAY(SELECT id FROM matched WHERE status NOT IN ('failed', 'queued')))
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
), logged AS (
    INSERT INTO :log (job_id, status, priority, entrypoint, traceback, aggregated)
    SELECT id, status:::status, priority, entrypoint, traceback, false -- uncounted
    SELECT id, status:::status, priority, entrypoint, traceback, true -- counted
    FROM matched
    WHERE logged
    ORDER BY ord
), counts AS ( -- counted
    INSERT INTO :counts (statistics, second, entrypoint, priority, status, count) -- counted
    SELECT :statistics_literal::regclass, date_trunc('sec', now(), 'UTC'), entrypoint, -- counted
           priority, status, count(*) -- counted
    FROM matched -- counted
    WHERE logged OR status = 'successful' -- counted
    GROUP BY entrypoint, priority, status -- counted
)
SELECT ord FROM matched ORDER BY ord
