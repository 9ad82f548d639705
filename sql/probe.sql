-- probe: what there will be to do: whether jobs wait, and when to look again.
-- $1 text[]  entrypoints
-- $2 int8[]  for each, after how many milliseconds without a heartbeat its jobs are stale
-- $3 bool    count the deferred jobs
-- > due bool             a queued job is due now, locked ones included
-- > queued bool          there is a queued job at all
-- > next_due_us int8     microseconds until the next deferred job is due, a year at most, or NULL
-- > next_stale_us int8   microseconds until the oldest heartbeat of a picked job is stale, or NULL; a
-- >                      heartbeat of more than a year ago counts as one of a year ago
-- > deferred int8        jobs that are not due yet, or NULL
-- locks: none
-- index: {queue}_ep_ea_idx, {queue}_picked_heartbeat_idx
-- log: none
-- notify: none
WITH first_queued AS MATERIALIZED (
    -- in an index's order: it skips what it knows to be dead, where the table is read row by row
    SELECT soonest.execute_after
    FROM unnest($1::text[]) AS e (entrypoint)
    CROSS JOIN LATERAL (
        SELECT q.execute_after
        FROM :queue AS q
        WHERE q.entrypoint = e.entrypoint AND q.status = 'queued'
        ORDER BY q.execute_after
        LIMIT 1
    ) AS soonest
)
SELECT
    EXISTS (SELECT FROM first_queued WHERE execute_after <= now()) AS due,
    EXISTS (SELECT FROM first_queued) AS queued,
    -- there is no difference from infinity, which may stand in any column
    (SELECT ceil(extract(epoch FROM min(least(soonest.execute_after, now() + interval '1 year')) - now())
                 * 1000000)::int8
     FROM unnest($1) AS e (entrypoint)
     CROSS JOIN LATERAL (
         SELECT q.execute_after
         FROM :queue AS q
         WHERE q.entrypoint = e.entrypoint AND q.status = 'queued' AND q.execute_after > now()
         ORDER BY q.execute_after
         LIMIT 1
     ) AS soonest) AS next_due_us,
    (SELECT ceil(extract(epoch FROM min(greatest(least(oldest.heartbeat, now() + interval '1 year'),
                                                 now() - interval '1 year')
                                        + e.silence_ms * interval '1 millisecond') - now())
                 * 1000000)::int8
     FROM unnest($1, $2::int8[]) AS e (entrypoint, silence_ms)
     CROSS JOIN LATERAL (
         SELECT q.heartbeat
         FROM :queue AS q
         WHERE q.entrypoint = e.entrypoint AND q.status = 'picked'
         ORDER BY q.heartbeat
         LIMIT 1
     ) AS oldest) AS next_stale_us,
    CASE WHEN $3 THEN (SELECT count(*)
                       FROM unnest($1) AS e (entrypoint)
                       CROSS JOIN LATERAL (
                           SELECT q.id
                           FROM :queue AS q
                           WHERE q.entrypoint = e.entrypoint AND q.status = 'queued'
                                 AND q.execute_after > now()
                           ORDER BY q.execute_after -- so that no other index fits
                       ) AS later) END AS deferred
