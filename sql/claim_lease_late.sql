-- claim_lease_late: what claims behind cursors leave out: what the cursors have passed, and what is of a
-- priority between theirs. And what is of a higher priority than theirs, as those claims do; but nothing
-- behind the cursors: beside a fleet that is quicker than the walk there would be no end.
-- $1 int4    jobs wanted
-- $2 text    entrypoint
-- $3 int4    bytes of a job's payload and headers at most; larger ones are left out
-- $4 text    the timeout, such as 2000ms
-- $5 int8[]  ids that are not wanted
-- $6 int4[]  priorities, the highest first; at least one
-- $7 int8[]  for each, up to which id to look
-- > place tid, id int8, updated timestamptz, priority int4, attempts int4, ord int4, payload bytea,
-- > headers jsonb, large bool, picked timestamptz    in the order (priority DESC, id); ord is 1
-- locks: the rows, SKIP LOCKED, until the transaction ends; no more than are returned
-- index: {queue}_ep_prio_id_idx
-- log: none
-- notify: none
/* pgqueuer lease */
SELECT place, id, updated, priority, attempts, 1 AS ord,
       CASE WHEN coalesce(octet_length(payload), 0) + coalesce(octet_length(headers::text), 0) <= $3
            THEN payload END AS payload,
       CASE WHEN coalesce(octet_length(payload), 0) + coalesce(octet_length(headers::text), 0) <= $3
            THEN headers END AS headers,
       coalesce(octet_length(payload), 0) + coalesce(octet_length(headers::text), 0) > $3 AS large,
       now() AS picked
FROM (
    SELECT above.*
    FROM (SELECT q.ctid AS place, q.id, q.updated, q.priority, q.attempts, q.payload, q.headers
          FROM :queue AS q
          WHERE q.entrypoint = ANY (ARRAY[$2]) AND q.status = 'queued' AND q.execute_after <= now()
                AND q.priority > ($6::int4[])[1] AND q.id <> ALL ($5::int8[])
                AND (SELECT set_config('idle_in_transaction_session_timeout', $4, true)) IS NOT NULL
          ORDER BY q.entrypoint, q.priority DESC, q.id
          LIMIT $1
          FOR UPDATE OF q SKIP LOCKED) AS above
    UNION ALL
    SELECT behind.*
    FROM (SELECT c.priority, c.id, lag(c.priority) OVER (ORDER BY c.place) AS above
          FROM unnest($6, $7::int8[]) WITH ORDINALITY AS c (priority, id, place)) AS cursor
    CROSS JOIN LATERAL (
        SELECT middle.*
        FROM (SELECT q.ctid AS place, q.id, q.updated, q.priority, q.attempts, q.payload, q.headers
              FROM :queue AS q
              WHERE q.entrypoint = ANY (ARRAY[$2]) AND q.status = 'queued' AND q.execute_after <= now()
                    AND q.priority > cursor.priority AND q.priority < cursor.above AND q.id <> ALL ($5)
                    AND CASE WHEN q.xmax = 0 THEN true
                             WHEN age(q.xmax) BETWEEN (SELECT age(pg_snapshot_xmax(pg_current_snapshot())::xid)) - 10000
                                                  AND (SELECT age(pg_snapshot_xmax(pg_current_snapshot())::xid))
                             THEN q.xmax = pg_current_xact_id_if_assigned()::xid
                             ELSE q.xmax NOT IN (SELECT running::xid
                                                 FROM pg_snapshot_xip(pg_current_snapshot()) AS running)
                        END
              ORDER BY q.entrypoint, q.priority DESC, q.id
              LIMIT $1
              FOR UPDATE OF q SKIP LOCKED) AS middle
        UNION ALL
        SELECT passed.*
        FROM (SELECT q.ctid AS place, q.id, q.updated, q.priority, q.attempts, q.payload, q.headers
              FROM :queue AS q
              WHERE q.entrypoint = ANY (ARRAY[$2]) AND q.status = 'queued' AND q.execute_after <= now()
                    AND q.priority = cursor.priority AND q.id <= cursor.id AND q.id <> ALL ($5)
                    AND q.id >= (
                        -- where they begin: only one index has them in this order, and it is to be walked
                        SELECT first.id
                        FROM (SELECT w.id, w.priority
                              FROM :queue AS w
                              WHERE w.entrypoint = ANY (ARRAY[$2]) AND w.status = 'queued'
                                    AND w.execute_after <= now() AND w.priority <= cursor.priority
                              ORDER BY w.entrypoint, w.priority DESC, w.id
                              LIMIT 1) AS first
                        WHERE first.priority = cursor.priority)
                    AND CASE WHEN q.xmax = 0 THEN true
                             WHEN age(q.xmax) BETWEEN (SELECT age(pg_snapshot_xmax(pg_current_snapshot())::xid)) - 10000
                                                  AND (SELECT age(pg_snapshot_xmax(pg_current_snapshot())::xid))
                             THEN q.xmax = pg_current_xact_id_if_assigned()::xid
                             ELSE q.xmax NOT IN (SELECT running::xid
                                                 FROM pg_snapshot_xip(pg_current_snapshot()) AS running)
                        END
              ORDER BY q.entrypoint, q.priority DESC, q.id
              LIMIT $1
              FOR UPDATE OF q SKIP LOCKED) AS passed
    ) AS behind
    LIMIT $1
) AS found
