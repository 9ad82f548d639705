-- probe: what there will be to do: whether jobs wait, and when to look again.
-- $1 text[]  entrypoints
-- $2 int8    heartbeat timeout in milliseconds
-- > due bool             a queued job is due now, locked ones included
-- > queued bool          there is a queued job at all
-- > next_due_us int8     microseconds until the next deferred job is due, or NULL
-- > next_stale_us int8   microseconds until the oldest heartbeat of a picked job is stale, or NULL
-- locks: none
-- index: {queue}_ep_ea_idx, {queue}_picked_heartbeat_idx
-- log: none
-- notify: none
SELECT
    EXISTS (SELECT FROM :queue AS q
            WHERE q.entrypoint = ANY ($1::text[]) AND q.status = 'queued'
                  AND q.execute_after <= now()) AS due,
    EXISTS (SELECT FROM :queue AS q
            WHERE q.entrypoint = ANY ($1) AND q.status = 'queued') AS queued,
    (SELECT ceil(extract(epoch FROM min(soonest.execute_after) - now()) * 1000000)::int8
     FROM unnest($1) AS e (entrypoint)
     CROSS JOIN LATERAL (
         SELECT q.execute_after
         FROM :queue AS q
         WHERE q.entrypoint = e.entrypoint AND q.status = 'queued' AND q.execute_after > now()
         ORDER BY q.execute_after
         LIMIT 1
     ) AS soonest) AS next_due_us,
    (SELECT ceil(extract(epoch FROM q.heartbeat + $2 * interval '1 millisecond' - now())
                 * 1000000)::int8
     FROM :queue AS q
     WHERE q.status = 'picked' AND q.entrypoint = ANY ($1)
     ORDER BY q.heartbeat
     LIMIT 1) AS next_stale_us
