-- extras_enqueue_arrays: makes the function that enqueues jobs for clients in any language. It has the rights
-- of its owner, so that a producer needs none on the tables; nothing in it depends on the caller's settings.
-- Limits, texts and rows are those of src/queue/enqueue.c and sql/enqueue_*.sql.
-- locks: none
-- index: {queue}_unique_dedupe_key is the arbiter of the function
-- log: none; the function writes queued, one for each job that was inserted and is to be logged
-- notify: none; the function's inserts notify, by the trigger
CREATE OR REPLACE FUNCTION :extras.enqueue_arrays(
    entrypoints text[],
    payloads bytea[] DEFAULT NULL,
    priorities integer[] DEFAULT NULL,
    delays interval[] DEFAULT NULL,
    execute_after timestamp with time zone[] DEFAULT NULL,
    dedupe_keys text[] DEFAULT NULL,
    headers jsonb[] DEFAULT NULL,
    on_conflict text DEFAULT 'raise',
    log_policy text DEFAULT 'full'
) RETURNS bigint[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
    job_count CONSTANT integer := coalesce(cardinality(entrypoints), 0);
    way CONSTANT text := coalesce(on_conflict, 'raise');
    policy CONSTANT text := coalesce(log_policy, 'full');
    sequence regclass;
    bytes numeric;
    bad record;
    ids bigint[];
BEGIN
    IF way NOT IN ('raise', 'skip', 'update_priority') THEN
        RAISE EXCEPTION 'on_conflict is none of the choices: %', left(way, 64)
            USING ERRCODE = '22023', HINT = 'one of raise, skip, update_priority';
    END IF;
    IF policy NOT IN ('full', 'terminal', 'failures') THEN
        RAISE EXCEPTION 'there is no log policy %', left(policy, 64)
            USING ERRCODE = '22023', HINT = 'one of full, terminal, failures';
    END IF;
    IF job_count > 100000 THEN
        RAISE EXCEPTION 'the batch has % jobs; at most 100000 are allowed', job_count
            USING ERRCODE = '54000';
    END IF;
    IF cardinality(payloads) <> job_count OR cardinality(priorities) <> job_count
       OR cardinality(delays) <> job_count OR cardinality(execute_after) <> job_count
       OR cardinality(dedupe_keys) <> job_count OR cardinality(headers) <> job_count THEN
        RAISE EXCEPTION 'the arrays are not of one length' USING ERRCODE = '22023',
            HINT = 'an array that is NULL stands for none of each job';
    END IF;
    IF job_count = 0 THEN
        RETURN '{}';
    END IF;
    SELECT c.ord - 1 AS place, c.problem[1] AS state, c.problem[2] AS message
    INTO bad
    FROM (
        SELECT i.ord, CASE
            WHEN coalesce(i.entrypoint, '') = '' THEN ARRAY['22023', 'the entrypoint is empty']
            WHEN octet_length(i.entrypoint) > 1024 THEN ARRAY['54000',
                format('the entrypoint has %s bytes; at most 1024 are allowed',
                       octet_length(i.entrypoint))]
            WHEN octet_length(i.dedupe_key) > 2048 THEN ARRAY['54000',
                format('the dedupe key has %s bytes; at most 2048 are allowed',
                       octet_length(i.dedupe_key))]
            WHEN octet_length(i.headers::text) > 1048576 THEN ARRAY['54000',
                format('the headers text has %s bytes; at most 1048576 are allowed',
                       octet_length(i.headers::text))]
            WHEN jsonb_typeof(i.headers) NOT IN ('object', 'null') THEN ARRAY['22023',
                'the headers are JSON, but not an object']
            WHEN octet_length(i.payload) > 67108864 THEN ARRAY['54000',
                format('the payload has %s bytes; at most 67108864 are allowed',
                       octet_length(i.payload))]
            WHEN i.delay_ms NOT BETWEEN 0 AND 3162240000000 THEN ARRAY['54000',
                format('the delay must be from 0 to 3162240000000 ms, is %s', i.delay_ms)]
            WHEN i.run_at_us NOT BETWEEN 0 AND 6324480000000000 THEN ARRAY['54000',
                format('the absolute time is out of range: %s us since 1970', i.run_at_us)]
            WHEN i.run_at_us <> 0 AND i.delay_ms <> 0 THEN ARRAY['22023',
                'a delay and an absolute time are given; use one']
        END AS problem
        FROM (
            SELECT u.ord, u.entrypoint, u.dedupe_key, u.headers, u.payload,
                   round((extract(epoch FROM u.delay) * 1000)::numeric) AS delay_ms,
                   round((extract(epoch FROM u.run_at) * 1000000)::numeric) AS run_at_us
            FROM unnest(entrypoints, payloads, headers, delays, execute_after, dedupe_keys)
                 WITH ORDINALITY AS u (entrypoint, payload, headers, delay, run_at, dedupe_key, ord)
        ) AS i
    ) AS c
    WHERE c.problem IS NOT NULL
    ORDER BY c.ord
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = bad.state, MESSAGE = bad.message,
            DETAIL = format('job %s of the batch, counted from 0', bad.place);
    END IF;
    SELECT sum(coalesce(octet_length(u.payload), 0) + coalesce(octet_length(u.headers::text), 0))
    INTO bytes
    FROM unnest(payloads, headers) AS u (payload, headers);
    IF bytes > 268435456 THEN
        RAISE EXCEPTION 'the batch has more than 268435456 bytes' USING ERRCODE = '54000';
    END IF;
    IF way = 'update_priority'
       AND EXISTS (SELECT FROM unnest(dedupe_keys) AS u (key) WHERE u.key IS NOT NULL
                   GROUP BY u.key HAVING count(*) > 1) THEN
        RAISE EXCEPTION 'update_priority needs each dedupe key at most once in a call'
            USING ERRCODE = '22023';
    END IF;
    sequence := pg_get_serial_sequence(:queue_literal, 'id')::regclass;
    IF way = 'update_priority' THEN
        WITH input AS MATERIALIZED (
            SELECT u.ord, nextval(sequence) AS id, u.entrypoint, u.payload,
                   nullif(u.headers, 'null'::jsonb) AS headers, coalesce(u.priority, 0) AS priority,
                   coalesce(u.run_at, now() + coalesce(u.delay, '0')) AS execute_after, u.dedupe_key
            FROM unnest(entrypoints, payloads, headers, priorities, delays, execute_after,
                        dedupe_keys)
                 WITH ORDINALITY AS u (entrypoint, payload, headers, priority, delay, run_at,
                                       dedupe_key, ord)
        ), upserted AS (
            INSERT INTO :queue AS q (id, priority, execute_after, status, entrypoint, dedupe_key,
                                     payload, headers)
            SELECT i.id, i.priority, i.execute_after, 'queued', i.entrypoint, i.dedupe_key,
                   i.payload, i.headers
            FROM input AS i
            ORDER BY i.ord
            ON CONFLICT (dedupe_key)
                WHERE ((status = ANY (ARRAY['queued':::status, 'picked':::status]))
                       AND (dedupe_key IS NOT NULL))
                DO UPDATE SET priority = greatest(q.priority, excluded.priority)
            RETURNING q.id, q.dedupe_key
        ), logged AS (
            INSERT INTO :log (job_id, status, priority, entrypoint)
            SELECT i.id, 'queued', i.priority, i.entrypoint
            FROM input AS i JOIN upserted AS n ON n.id = i.id
            WHERE policy = 'full'
            ORDER BY i.ord
        )
        SELECT array_agg(coalesce(n.id, i.id) ORDER BY i.ord)
        INTO ids
        FROM input AS i LEFT JOIN upserted AS n ON n.dedupe_key = i.dedupe_key;
        RETURN ids;
    END IF;
    WITH input AS MATERIALIZED (
        SELECT u.ord, nextval(sequence) AS id, u.entrypoint, u.payload,
               nullif(u.headers, 'null'::jsonb) AS headers, coalesce(u.priority, 0) AS priority,
               coalesce(u.run_at, now() + coalesce(u.delay, '0')) AS execute_after, u.dedupe_key
        FROM unnest(entrypoints, payloads, headers, priorities, delays, execute_after, dedupe_keys)
             WITH ORDINALITY AS u (entrypoint, payload, headers, priority, delay, run_at,
                                   dedupe_key, ord)
    ), inserted AS (
        INSERT INTO :queue (id, priority, execute_after, status, entrypoint, dedupe_key, payload,
                            headers)
        SELECT i.id, i.priority, i.execute_after, 'queued', i.entrypoint, i.dedupe_key, i.payload,
               i.headers
        FROM input AS i
        ORDER BY i.ord
        ON CONFLICT (dedupe_key)
            WHERE ((status = ANY (ARRAY['queued':::status, 'picked':::status]))
                   AND (dedupe_key IS NOT NULL))
            DO NOTHING
        RETURNING id
    ), logged AS (
        INSERT INTO :log (job_id, status, priority, entrypoint)
        SELECT i.id, 'queued', i.priority, i.entrypoint
        FROM input AS i JOIN inserted AS n ON n.id = i.id
        WHERE policy = 'full'
        ORDER BY i.id
    )
    SELECT array_agg(n.id ORDER BY i.ord)
    INTO ids
    FROM input AS i LEFT JOIN inserted AS n ON n.id = i.id;
    IF way = 'raise' AND array_position(ids, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'a dedupe key is taken by a job that is queued or running'
            USING ERRCODE = '23505', CONSTRAINT = :queue_name_literal || '_unique_dedupe_key',
                  DETAIL = format('job %s of the batch, counted from 0',
                                  array_position(ids, NULL) - 1),
                  HINT = 'use on_conflict skip or update_priority if that is expected';
    END IF;
    RETURN ids;
END
$body$
