-- beat_row: renews the heartbeat of picked jobs, and tells which claims are lost. A row that
-- somebody has locked is passed over: it is being settled, cancelled or looked at.
-- $1 int8[]         ids, each once
-- $2 timestamptz[]  `updated` of the claims
-- $3 uuid           this worker
-- > ord int8        the places in the arrays of the jobs whose claim is lost, or whose row was locked
-- > locked bool     it was locked: whoever has it may be taking the job over
-- locks: the rows whose claim stands, SKIP LOCKED; no other, or an adopting claim would miss it
-- index: the primary key
-- log: none
-- notify: none
WITH input AS MATERIALIZED (
    SELECT i.ord, i.id, i.token
    FROM unnest($1::int8[], $2::timestamptz[]) WITH ORDINALITY AS i (id, token, ord)
), free AS MATERIALIZED (
    SELECT q.id
    FROM :queue AS q
    JOIN input ON input.id = q.id AND input.token = q.updated
    WHERE q.id = ANY ($1) AND q.status = 'picked' AND q.queue_manager_id = $3
    ORDER BY q.id
    FOR UPDATE OF q SKIP LOCKED
), beaten AS (
    UPDATE :queue AS q
    SET heartbeat = now()
    WHERE q.id = ANY (ARRAY(SELECT id FROM free))
)
SELECT input.ord, held.id IS NOT NULL AS locked
FROM input
LEFT JOIN (SELECT id, updated
           FROM :queue
           WHERE id = ANY ($1) -- and no other index fits:
                 AND queue_manager_id IS NOT DISTINCT FROM $3 AND status::text = 'picked') AS held
    ON held.id = input.id AND held.updated = input.token
LEFT JOIN free ON free.id = held.id
WHERE free.id IS NULL
ORDER BY input.ord
