-- claim_lease_many: claim_lease for several entrypoints. What comes first over all of them decides how
-- the batch is divided; each entrypoint then gives its first free rows. What seems to be locked counts
-- only where there is less than that: it would take the place of another entrypoint's free rows.
-- $1 int4    jobs wanted
-- $2 text[]  entrypoints
-- $3 int4    bytes of a job's payload and headers at most; larger ones are left out
-- $4 text    the timeout, such as 2000ms
-- $5 int8[]  ids that are not wanted
-- $6 bool    whether every row is tried, also those that seem to be locked
-- > place tid, id int8, updated timestamptz, priority int4, attempts int4, ord int4, payload bytea,
-- > headers jsonb, large bool, picked timestamptz    in the order (priority DESC, id); ord is the
-- >                                                  place of the entrypoint in $2
-- locks: the rows, SKIP LOCKED, until the transaction ends
-- index: {queue}_ep_prio_id_idx
-- log: none
-- notify: none
/* pgqueuer lease */
WITH free_ones AS MATERIALIZED (
    SELECT due.place
    FROM unnest($2::text[]) WITH ORDINALITY AS e (entrypoint, place)
    CROSS JOIN LATERAL (
        SELECT e.place, q.priority, q.id
        FROM :queue AS q
        WHERE q.entrypoint = ANY (ARRAY[e.entrypoint]) AND q.status = 'queued' AND q.execute_after <= now()
              AND q.id <> ALL ($5::int8[])
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
    ORDER BY due.priority DESC, due.id
    LIMIT $1
), first_ones AS MATERIALIZED (
    SELECT place
    FROM free_ones
    UNION ALL
    (SELECT due.place
     FROM unnest($2) WITH ORDINALITY AS e (entrypoint, place)
     CROSS JOIN LATERAL (
         SELECT e.place, q.priority, q.id
         FROM :queue AS q
         WHERE q.entrypoint = ANY (ARRAY[e.entrypoint]) AND q.status = 'queued' AND q.execute_after <= now()
               AND q.id <> ALL ($5)
               AND NOT CASE WHEN q.xmax = 0 THEN true
                            WHEN age(q.xmax) BETWEEN (SELECT age(pg_snapshot_xmax(pg_current_snapshot())::xid)) - 10000
                                                 AND (SELECT age(pg_snapshot_xmax(pg_current_snapshot())::xid))
                            THEN q.xmax = pg_current_xact_id_if_assigned()::xid
                            ELSE q.xmax NOT IN (SELECT running::xid
                                                FROM pg_snapshot_xip(pg_current_snapshot()) AS running)
                       END
         ORDER BY q.entrypoint, q.priority DESC, q.id
         LIMIT $1
     ) AS due
     WHERE $6 AND (SELECT count(*) FROM free_ones) < $1
     ORDER BY due.priority DESC, due.id
     LIMIT $1 - (SELECT count(*) FROM free_ones))
), share AS MATERIALIZED (
    SELECT place, count(*) AS most
    FROM first_ones
    WHERE (SELECT set_config('idle_in_transaction_session_timeout', $4, true)) IS NOT NULL
    GROUP BY place
), locked AS MATERIALIZED (
    SELECT due.*, s.place AS ord
    FROM share AS s
    CROSS JOIN LATERAL (
        SELECT q.ctid AS place, q.id, q.updated, q.priority, q.attempts, q.payload, q.headers
        FROM :queue AS q
        WHERE q.entrypoint = ANY (ARRAY[($2)[s.place]]) AND q.status = 'queued' AND q.execute_after <= now()
              AND q.id <> ALL ($5::int8[])
              AND CASE WHEN q.xmax = 0 OR $6 THEN true
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
