-- suspect_beat: renews the heartbeat of everything that is picked under an id.
-- $1 uuid    the id
-- locks: the rows, SKIP LOCKED
-- index: {queue}_queue_manager_id_idx
-- log: none
-- notify: none
WITH mine AS MATERIALIZED (
    SELECT q.id
    FROM :queue AS q
    WHERE q.queue_manager_id = $1 AND q.status = 'picked'
    FOR UPDATE SKIP LOCKED
)
UPDATE :queue AS q
SET heartbeat = now()
WHERE q.id = ANY (ARRAY(SELECT id FROM mine))
