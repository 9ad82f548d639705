-- extras_enqueue_many: makes the function that enqueues a JSON array of jobs, for clients in any language;
-- with the caller's rights, over enqueue_arrays.
-- locks: none
-- index: none
-- log: none
-- notify: none
CREATE OR REPLACE FUNCTION :extras.enqueue_many(
    jobs jsonb,
    on_conflict text DEFAULT 'raise',
    log_policy text DEFAULT 'full'
) RETURNS TABLE (place integer, id bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
    bad record;
    ids bigint[];
BEGIN
    IF jsonb_typeof(jobs) IS DISTINCT FROM 'array' THEN
        RAISE EXCEPTION 'the jobs are not a JSON array' USING ERRCODE = '22023';
    END IF;
    IF jsonb_array_length(jobs) > 100000 THEN
        RAISE EXCEPTION 'the batch has % jobs; at most 100000 are allowed', jsonb_array_length(jobs)
            USING ERRCODE = '54000';
    END IF;
    SELECT c.ord - 1 AS place, c.problem
    INTO bad
    FROM (
        SELECT e.ord, CASE
            WHEN jsonb_typeof(e.job) <> 'object' THEN 'the job is not a JSON object'
            WHEN k.kinds IS NULL THEN format('a job has no member %s', left(m.key, 64))
            WHEN jsonb_typeof(m.value) <> ALL (k.kinds)
                THEN format('the %s must be a JSON %s', m.key, array_to_string(k.kinds, ' or '))
            WHEN e.job ->> 'payload' IS NOT NULL AND e.job ->> 'payload_base64' IS NOT NULL
                THEN 'a payload and a payload_base64 are given; use one'
        END AS problem
        FROM jsonb_array_elements(jobs) WITH ORDINALITY AS e (job, ord)
        LEFT JOIN LATERAL jsonb_each(CASE jsonb_typeof(e.job) WHEN 'object' THEN e.job END)
            AS m (key, value) ON m.value <> 'null'::jsonb
        LEFT JOIN (VALUES ('entrypoint', ARRAY['string']), ('payload', ARRAY['string']),
                          ('payload_base64', ARRAY['string']), ('priority', ARRAY['number']),
                          ('delay', ARRAY['number', 'string']), ('execute_after', ARRAY['string']),
                          ('dedupe_key', ARRAY['string']), ('headers', ARRAY['object']))
            AS k (key, kinds) ON k.key = m.key
        WHERE m.key IS NOT NULL OR jsonb_typeof(e.job) <> 'object'
    ) AS c
    WHERE c.problem IS NOT NULL
    ORDER BY c.ord, c.problem
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = bad.problem,
            DETAIL = format('job %s of the batch, counted from 0', bad.place),
            HINT = 'entrypoint, payload or payload_base64, priority, delay (seconds or an interval), '
                   'execute_after, dedupe_key, headers';
    END IF;
    SELECT :extras.enqueue_arrays(
        array_agg(e.job ->> 'entrypoint' ORDER BY e.ord),
        array_agg(coalesce(decode(e.job ->> 'payload_base64', 'base64'),
                           convert_to(e.job ->> 'payload', 'UTF8')) ORDER BY e.ord),
        array_agg((e.job ->> 'priority')::integer ORDER BY e.ord),
        array_agg(CASE jsonb_typeof(e.job -> 'delay')
                      WHEN 'number' THEN make_interval(secs => (e.job ->> 'delay')::double precision)
                      ELSE (e.job ->> 'delay')::interval
                  END ORDER BY e.ord),
        array_agg((e.job ->> 'execute_after')::timestamptz ORDER BY e.ord),
        array_agg(e.job ->> 'dedupe_key' ORDER BY e.ord),
        array_agg(nullif(e.job -> 'headers', 'null'::jsonb) ORDER BY e.ord),
        on_conflict, log_policy)
    INTO ids
    FROM jsonb_array_elements(jobs) WITH ORDINALITY AS e (job, ord);
    RETURN QUERY
        SELECT (u.ord - 1)::integer, u.id
        FROM unnest(ids) WITH ORDINALITY AS u (id, ord)
        ORDER BY u.ord;
END
$body$
