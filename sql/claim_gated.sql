-- claim_gated: claims due jobs on the row lane as claim_row does, with limits over the fleet, rates and
-- retry timers. The seats of a limited entrypoint are numbered from 0; a picked job of it occupies
-- one of them (`slot`), and a unique index sees to it that no two occupy the same. Of a limited
-- entrypoint the first rows in order are looked at, no more than there is room for; one that somebody
-- has locked is not replaced by a later one, so that jobs start in their order. With $7 given also
-- the jobs whose worker went silent, except those that this worker runs itself; they count in the
-- limit already and keep their seat. Two claims that want the same seat: the second fails with 23505.
-- Source: wire contract 4.3.
-- $1 int4    jobs wanted
-- $2 text[]  entrypoints
-- $3 int4[]  for each, fresh jobs wanted at most
-- $4 int4[]  for each, its limit; 0: none
-- $5 int8[]  for each, after how many milliseconds without a heartbeat its jobs are stale
-- $6 uuid    this worker
-- $7 int8[]  ids of the jobs that this worker has; NULL: fresh jobs only
-- $8 text[]  entrypoints of which no claim is logged
-- > id int8, updated timestamptz, priority int4, attempts int4, entrypoint text, payload bytea,
-- > headers jsonb    in the order (priority DESC, id)
-- locks: the rows, SKIP LOCKED; waits for a claim under way that takes the same seat
-- index: {queue}_ep_prio_id_idx, {queue}_picked_heartbeat_idx, {queue}_queue_manager_id_idx,
--        {queue}_picked_slot_idx, the primary key
-- log: picked, one a job, but for those of $8
-- counted: what is logged, into the counts; such log rows count as aggregated
-- notify: none (the trigger is silent on UPDATE)
WITH wanted AS MATERIALIZED (
    SELECT w.entrypoint, w.most, w.seats, w.silence_ms * interval '1 millisecond' AS silence
    FROM unnest($2::text[], $3::int4[], $4::int4[], $5::int8[])
             AS w (entrypoint, most, seats, silence_ms)
), picked AS MATERIALIZED (
    SELECT q.entrypoint, count(*) AS held
    FROM :queue AS q
    WHERE q.queue_manager_id IS NOT NULL
          AND q.entrypoint = ANY (ARRAY(SELECT entrypoint FROM wanted WHERE seats > 0))
    GROUP BY q.entrypoint
), gate AS MATERIALIZED (
    SELECT w.entrypoint, w.seats, w.silence, coalesce(p.held, 0) AS held,
           CASE WHEN w.seats > 0 THEN greatest(least(w.most, w.seats - coalesce(p.held, 0)), 0)
                ELSE w.most END AS room
    FROM wanted AS w LEFT JOIN picked AS p ON p.entrypoint = w.entrypoint
), unlimited AS MATERIALIZED (
    SELECT due.id, due.priority
    FROM gate AS g
    CROSS JOIN LATERAL (
        SELECT q.id, q.priority
        FROM :queue AS q
        WHERE q.entrypoint = ANY (ARRAY[g.entrypoint]) AND q.status = 'queued' AND q.execute_after <= now()
        ORDER BY q.entrypoint, q.priority DESC, q.id
        LIMIT g.room
        FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE g.seats = 0
), first_ones AS MATERIALIZED (
    SELECT due.id
    FROM gate AS g
    CROSS JOIN LATERAL (
        SELECT q.id
        FROM :queue AS q
        WHERE q.entrypoint = ANY (ARRAY[g.entrypoint]) AND q.status = 'queued' AND q.execute_after <= now()
        ORDER BY q.entrypoint, q.priority DESC, q.id
        LIMIT g.room
    ) AS due
    WHERE g.seats > 0
), limited AS MATERIALIZED (
    SELECT q.id, q.priority, q.entrypoint
    FROM :queue AS q
    WHERE q.id = ANY (ARRAY(SELECT id FROM first_ones)) AND q.execute_after <= now()
          AND q.status::text = 'queued' -- as text: so that no index but the primary key fits
    FOR UPDATE SKIP LOCKED
), stale AS MATERIALIZED (
    SELECT q.id, q.priority
    FROM :queue AS q JOIN gate AS g ON g.entrypoint = q.entrypoint
    WHERE $7::int8[] IS NOT NULL
          AND q.id = ANY (ARRAY(SELECT s.id
                                FROM :queue AS s
                                WHERE s.status = 'picked' AND s.id <> ALL ($7)
                                      AND s.entrypoint = ANY (ARRAY(SELECT entrypoint FROM gate))
                                      AND s.heartbeat < now() - (SELECT min(silence) FROM gate)
                                ORDER BY s.heartbeat)) -- so that no other index fits
          AND q.status::text = 'picked' AND q.heartbeat < now() - g.silence
    ORDER BY q.priority DESC, q.id
    LIMIT $1
    FOR UPDATE OF q SKIP LOCKED
), chosen AS MATERIALIZED (
    SELECT c.id, c.seated,
           row_number() OVER (PARTITION BY c.seated ORDER BY c.priority DESC, c.id) AS place
    FROM (SELECT id, priority, NULL AS seated FROM unlimited
          UNION ALL SELECT id, priority, entrypoint FROM limited
          UNION ALL SELECT id, priority, NULL FROM stale
          ORDER BY priority DESC, id
          LIMIT $1) AS c
), seat AS MATERIALIZED (
    SELECT g.entrypoint, s.number,
           row_number() OVER (PARTITION BY g.entrypoint ORDER BY s.number) AS place
    FROM gate AS g CROSS JOIN LATERAL generate_series(0, g.held + g.room - 1) AS s (number)
    WHERE g.seats > 0 AND g.room > 0
          AND (SELECT true
               FROM :queue AS q
               WHERE q.entrypoint = ANY (ARRAY[g.entrypoint]) AND q.status = 'picked'
                     AND q.slot = s.number
               ORDER BY q.entrypoint -- so that no other index fits
               LIMIT 1) IS NULL
), seated AS MATERIALIZED (
    SELECT c.id, s.number
    FROM chosen AS c LEFT JOIN seat AS s ON s.entrypoint = c.seated AND s.place = c.place
    WHERE c.seated IS NULL OR s.number IS NOT NULL
), numbers AS MATERIALIZED (
    SELECT array_agg(id ORDER BY id) AS ids, array_agg(number ORDER BY id) AS numbers
    FROM seated
    WHERE number IS NOT NULL
), claimed AS (
    UPDATE :queue AS q
    SET status = 'picked', queue_manager_id = $6, updated = now(), heartbeat = now(),
        slot = CASE WHEN q.status = 'picked' THEN q.slot
                    ELSE (SELECT n.numbers[array_position(n.ids, q.id)] FROM numbers AS n) END
    WHERE q.id = ANY (ARRAY(SELECT id FROM seated))
    RETURNING q.id, q.updated, q.priority, q.attempts, q.entrypoint, q.payload, q.headers
), logged AS (
    INSERT INTO :log (job_id, status, priority, entrypoint, aggregated)
    SELECT id, 'picked', priority, entrypoint, false -- uncounted
    SELECT id, 'picked', priority, entrypoint, true -- counted
    FROM claimed
    WHERE entrypoint <> ALL ($8::text[])
    ORDER BY priority DESC, id
), counts AS ( -- counted
    INSERT INTO :counts (statistics, second, entrypoint, priority, status, count) -- counted
    SELECT :statistics_literal::regclass, date_trunc('sec', now(), 'UTC'), entrypoint, -- counted
           priority, 'picked', count(*) -- counted
    FROM claimed -- counted
    WHERE entrypoint <> ALL ($8) -- counted
    GROUP BY entrypoint, priority -- counted
)
SELECT id, updated, priority, attempts, entrypoint, payload, headers
FROM claimed
ORDER BY priority DESC, id
