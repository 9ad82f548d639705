-- enqueue_skip: as enqueue_raise, but a job with a taken dedupe key is left out.
-- $1 text[]         entrypoints
-- $2 bytea[]        payloads, NULL for none
-- $3 jsonb[]        headers, NULL for none
-- $4 int4[]         priorities
-- $5 int8[]         delays in milliseconds
-- $6 timestamptz[]  absolute times, NULL to use the delay
-- $7 text[]         dedupe keys, NULL for none
-- $8 bool[]         whether it is logged
-- > ord int8, id int8    in input order; id NULL: left out
-- locks: RowExclusive on queue and log
-- index: {queue}_unique_dedupe_key is the arbiter
-- log: queued, one for each job that was inserted and is to be logged
-- notify: table_changed_event insert, by the trigger, also when all were left out
WITH input AS MATERIALIZED (
    SELECT i.ord, nextval(s.name) AS id, i.entrypoint, i.payload, i.headers, i.priority,
           coalesce(i.run_at, now() + i.delay_ms * interval '1 millisecond') AS execute_after,
           i.dedupe_key, i.logged
    FROM (SELECT pg_get_serial_sequence(:queue_literal, 'id')::regclass AS name OFFSET 0) AS s,
         unnest($1::text[], $2::bytea[], $3::jsonb[], $4::int4[], $5::int8[], $6::timestamptz[],
                $7::text[], $8::bool[])
             WITH ORDINALITY AS i (entrypoint, payload, headers, priority, delay_ms, run_at,
                                   dedupe_key, logged, ord)
), inserted AS (
    INSERT INTO :queue (id, priority, execute_after, status, entrypoint, dedupe_key, payload,
                        headers)
    SELECT id, priority, execute_after, 'queued', entrypoint, dedupe_key, payload, headers
    FROM input
    ORDER BY ord
    ON CONFLICT (dedupe_key)
        WHERE ((status = ANY (ARRAY['queued':::status, 'picked':::status]))
               AND (dedupe_key IS NOT NULL))
        DO NOTHING
    RETURNING id
), logged AS (
    INSERT INTO :log (job_id, status, priority, entrypoint)
    SELECT input.id, 'queued', input.priority, input.entrypoint
    FROM input JOIN inserted ON inserted.id = input.id
    WHERE input.logged
    ORDER BY input.id
)
SELECT input.ord, inserted.id::int8
FROM input LEFT JOIN inserted ON inserted.id = input.id
ORDER BY input.ord
