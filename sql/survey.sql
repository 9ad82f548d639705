-- survey: of which entrypoints the picked rows show that other workers limit them in another way.
-- $1 text[]  entrypoints
-- $2 int4[]  for each, its limit; 0: none
-- $3 uuid    this worker
-- > ord int8    the place of the entrypoint
-- > kind int4   0: a seat beyond the limit is taken; 1: picked without a seat; 2: with a seat, though
-- >             we do not limit it
-- locks: none
-- index: {queue}_queue_manager_id_idx
-- log: none
-- notify: none
SELECT e.ord,
       CASE WHEN e.seats = 0 THEN 2 WHEN seen.highest >= e.seats THEN 0 ELSE 1 END::int4 AS kind
FROM unnest($1::text[], $2::int4[]) WITH ORDINALITY AS e (entrypoint, seats, ord)
JOIN (SELECT q.entrypoint, max(q.slot) AS highest, count(*) - count(q.slot) AS seatless
      FROM :queue AS q
      WHERE q.queue_manager_id IS NOT NULL AND q.queue_manager_id <> $3
            AND q.status::text = 'picked' -- as text: so that no other index fits
      GROUP BY q.entrypoint) AS seen ON seen.entrypoint = e.entrypoint
WHERE CASE WHEN e.seats = 0 THEN seen.highest IS NOT NULL
           ELSE coalesce(seen.highest >= e.seats, false) OR seen.seatless > 0 END
ORDER BY e.ord
