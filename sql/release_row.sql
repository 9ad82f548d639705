-- release_row: gives picked jobs back unstarted, as if they had not been claimed.
-- $1 int8[]         ids, each once; NULL: all that this worker has picked
-- $2 timestamptz[]  `updated` of the claims
-- $3 uuid           this worker
-- $4 text[]         entrypoints of which no release is logged; NULL: of none is
-- > id int8    the jobs that were given back; the others' claims are lost
-- locks: the rows
-- index: the primary key; {queue}_queue_manager_id_idx
-- log: queued, one a job, but for those of $4
-- counted: what is logged, into the counts; such log rows count as aggregated
-- notify: table_changed_event update, once, if any was given back
WITH mine AS MATERIALIZED (
    SELECT q.id
    FROM :queue AS q
    WHERE q.id = ANY (coalesce($1, ARRAY(SELECT own.id
                                         FROM :queue AS own
                                         WHERE own.queue_manager_id = $3)))
          AND q.queue_manager_id = $3 AND q.status = 'picked'
          AND ($1::int8[] IS NULL
               OR (q.id, q.updated) IN (SELECT * FROM unnest($1::int8[], $2::timestamptz[])))
    ORDER BY q.id
    FOR UPDATE
), released AS (
    UPDATE :queue AS q
    SET status = 'queued', updated = now(), queue_manager_id = NULL, slot = NULL
    WHERE q.id = ANY (ARRAY(SELECT id FROM mine))
    RETURNING q.id, q.priority, q.entrypoint
), logged AS (
    INSERT INTO :log (job_id, status, priority, entrypoint, aggregated)
    SELECT id, 'queued', priority, entrypoint, false -- uncounted
    SELECT id, 'queued', priority, entrypoint, true -- counted
    FROM released
    WHERE entrypoint <> ALL ($4::text[])
    ORDER BY id
), counts AS ( -- counted
    INSERT INTO :counts (statistics, second, entrypoint, priority, status, count) -- counted
    SELECT :statistics_literal::regclass, date_trunc('sec', now(), 'UTC'), entrypoint, -- counted
           priority, 'queued', count(*) -- counted
    FROM released -- counted
    WHERE entrypoint <> ALL ($4) -- counted
    GROUP BY entrypoint, priority -- counted
), told AS MATERIALIZED (
    SELECT pg_notify(:channel_literal,
                     json_build_object('channel', :channel_literal, 'operation', 'update',
                                       'sent_at', now(), 'table', :queue_name_literal,
                                       'type', 'table_changed_event')::text)
    FROM (SELECT FROM released LIMIT 1) AS any_released
)
SELECT released.id FROM released LEFT JOIN told ON true ORDER BY released.id
