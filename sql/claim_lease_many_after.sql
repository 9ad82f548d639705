-- claim_lease_many_after: claim_lease_after for several entrypoints, which divide the batch as those of
-- claim_lease_many do. One without a cursor is looked at whole.
-- $1 int4    jobs wanted
-- $2 text[]  entrypoints
-- $3 int4    bytes of a job's payload and headers at most; larger ones are left out
-- $4 text    the timeout, such as 2000ms
-- $5 int8[]  ids that are not wanted
-- $6 int4[]  of each cursor, the place of its entrypoint in $2
-- $7 int4[]  and its priority
-- $8 int8[]  and the id behind which to look
-- > place tid, id int8, updated timestamptz, priority int4, attempts int4, ord int4, payload bytea,
-- > headers jsonb, large bool, picked timestamptz    in the order (priority DESC, id); ord is the
-- >                                                  place of the entrypoint in $2
-- locks: the rows, SKIP LOCKED, until the transaction ends
-- index: {queue}_ep_prio_id_idx
-- log: none
-- notify: none
/* pgqueuer lease */
WITH span AS MATERIALIZED (
    -- above all cursors of an entrypoint: priorities from `low` on
    SELECT e.ord, e.entrypoint, coalesce(max(c.priority) + 1::int8, -2147483648) AS low,
           NULL::int4 AS priority, NULL::int8 AS after
    FROM unnest($2::text[]) WITH ORDINALITY AS e (entrypoint, ord)
    LEFT JOIN unnest($6::int4[], $7::int4[]) AS c (ord, priority) ON c.ord = e.ord
    WHERE (SELECT set_config('idle_in_transaction_session_timeout', $4, true)) IS NOT NULL
    GROUP BY e.ord, e.entrypoint
    UNION ALL
    SELECT c.ord, ($2)[c.ord], NULL, c.priority, c.after
    FROM unnest($6, $7, $8::int8[]) AS c (ord, priority, after)
), first_ones AS MATERIALIZED (
    SELECT f.*
    FROM (
        SELECT s.ord, s.low, s.priority AS at, due.priority, due.id
        FROM span AS s
        CROSS JOIN LATERAL (
            SELECT q.priority, q.id
            FROM :queue AS q
            WHERE q.entrypoint = ANY (ARRAY[s.entrypoint]) AND q.status = 'queued' AND q.execute_after <= now()
                  AND q.priority >= s.low AND q.id <> ALL ($5::int8[])
                  AND CASE WHEN q.xmax = 0 THEN true
                           WHEN age(q.xmax) BETWEEN (SELECT age(pg_snapshot_xmax(pg_current_snapshot())::xid)) - 10000
                                                AND (SELECT age(pg_snapshot_xmax(pg_current_snapshot())::xid))
                           THEN q.xmax = pg_current_xact_id_if_assigned()::xid
                           ELSE q.xmax NOT IN (SELECT running::xid
                                               FROM pg_snapshot_xip(pg_current_snapshot()) AS running)
                      END
            ORDER BY q.entrypoint, q.priority DESC, q.id
            LIMIT $1
        ) AS due
        WHERE s.priority IS NULL
        UNION ALL
        SELECT s.ord, NULL, s.priority, due.priority, due.id
        FROM span AS s
        CROSS JOIN LATERAL (
            SELECT q.priority, q.id
            FROM :queue AS q
            WHERE q.entrypoint = ANY (ARRAY[s.entrypoint]) AND q.status = 'queued' AND q.execute_after <= now()
                  AND q.priority = s.priority AND q.id > s.after AND q.id <> ALL ($5)
                  AND CASE WHEN q.xmax = 0 THEN true
                           WHEN age(q.xmax) BETWEEN (SELECT age(pg_snapshot_xmax(pg_current_snapshot())::xid)) - 10000
                                                AND (SELECT age(pg_snapshot_xmax(pg_current_snapshot())::xid))
                           THEN q.xmax = pg_current_xact_id_if_assigned()::xid
                           ELSE q.xmax NOT IN (SELECT running::xid
                                               FROM pg_snapshot_xip(pg_current_snapshot()) AS running)
                      END
            ORDER BY q.entrypoint, q.priority DESC, q.id
            LIMIT $1
        ) AS due
        WHERE s.priority IS NOT NULL
    ) AS f
    ORDER BY f.priority DESC, f.id
    LIMIT $1
), share AS MATERIALIZED (
    SELECT s.ord, s.entrypoint, s.low, s.priority, s.after, count(*) AS most
    FROM first_ones AS f
    JOIN span AS s ON s.ord = f.ord AND s.priority IS NOT DISTINCT FROM f.at
    GROUP BY s.ord, s.entrypoint, s.low, s.priority, s.after
), locked AS MATERIALIZED (
    SELECT due.*, s.ord
    FROM share AS s
    CROSS JOIN LATERAL (
        SELECT q.ctid AS place, q.id, q.updated, q.priority, q.attempts, q.payload, q.headers
        FROM :queue AS q
        WHERE q.entrypoint = ANY (ARRAY[s.entrypoint]) AND q.status = 'queued' AND q.execute_after <= now()
              AND q.priority >= s.low AND q.id <> ALL ($5)
              AND CASE WHEN q.xmax = 0 THEN true
                       WHEN age(q.xmax) BETWEEN (SELECT age(pg_snapshot_xmax(pg_current_snapshot())::xid)) - 10000
                                            AND (SELECT age(pg_snapshot_xmax(pg_current_snapshot())::xid))
                       THEN q.xmax = pg_current_xact_id_if_assigned()::xid
                       ELSE q.xmax NOT IN (SELECT running::xid
                                           FROM pg_snapshot_xip(pg_current_snapshot()) AS running)
                  END
        ORDER BY q.entrypoint, q.priority DESC, q.id
        LIMIT s.most
        FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE s.priority IS NULL
    UNION ALL
    SELECT due.*, s.ord
    FROM share AS s
    CROSS JOIN LATERAL (
        SELECT q.ctid, q.id, q.updated, q.priority, q.attempts, q.payload, q.headers
        FROM :queue AS q
        WHERE q.entrypoint = ANY (ARRAY[s.entrypoint]) AND q.status = 'queued' AND q.execute_after <= now()
              AND q.priority = s.priority AND q.id > s.after AND q.id <> ALL ($5)
              AND CASE WHEN q.xmax = 0 THEN true
                       WHEN age(q.xmax) BETWEEN (SELECT age(pg_snapshot_xmax(pg_current_snapshot())::xid)) - 10000
                                            AND (SELECT age(pg_snapshot_xmax(pg_current_snapshot())::xid))
                       THEN q.xmax = pg_current_xact_id_if_assigned()::xid
                       ELSE q.xmax NOT IN (SELECT running::xid
                                           FROM pg_snapshot_xip(pg_current_snapshot()) AS running)
                  END
        ORDER BY q.entrypoint, q.priority DESC, q.id
        LIMIT s.most
        FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE s.priority IS NOT NULL
)
SELECT place, id, updated, priority, attempts, ord::int4 AS ord,
       CASE WHEN coalesce(octet_length(payload), 0) + coalesce(octet_length(headers::text), 0) <= $3
            THEN payload END AS payload,
       CASE WHEN coalesce(octet_length(payload), 0) + coalesce(octet_length(headers::text), 0) <= $3
            THEN headers END AS headers,
       coalesce(octet_length(payload), 0) + coalesce(octet_length(headers::text), 0) > $3 AS large,
       now() AS picked
FROM locked
ORDER BY priority DESC, id
