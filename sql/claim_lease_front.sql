-- claim_lease_front: claim_lease_after beside other workers that claim with this statement. All would
-- walk over each other's rows; so behind the cursor that most jobs come from each begins where the one
-- before will end at the earliest: a claim takes at least as many ids as jobs, and passes none. Where
-- that is stands in a sequence, which all see at once; with the cursor that it is for in its upper
-- bits. It is a hint: what is passed all the same is found as what any cursor has passed. On its way a
-- claim tells how far it is, so that one that had to walk is the last.
-- $1 int4    jobs wanted
-- $2 text    entrypoint
-- $3 int4    bytes of a job's payload and headers at most; larger ones are left out
-- $4 text    the timeout, such as 2000ms
-- $5 int8[]  ids that are not wanted
-- $6 int4[]  priorities, the highest first; at least one
-- $7 int8[]  for each, the id behind which to look
-- $8 int4    the priority whose cursor is shared
-- $9 int8    the id behind which to look there, unless others are further
-- $10 int8   what stands in the upper bits of the sequence for the entrypoint and that priority
-- $11 bool   others are to look behind $9 again
-- > place tid, id int8, updated timestamptz, priority int4, attempts int4, ord int4, payload bytea,
-- > headers jsonb, large bool, picked timestamptz    in the order (priority DESC, id); ord is 1
-- locks: the rows, SKIP LOCKED, until the transaction ends; no more than are returned. RowExclusive on
-- the sequence for as long: whoever drops it waits for leases
-- index: {queue}_ep_prio_id_idx
-- log: none
-- notify: none
/* pgqueuer lease */
SELECT place, id, updated, priority, attempts,
       CASE WHEN hashint8(id) % 64 <> 0 OR priority <> $8 OR id > 140737488355328 THEN 1
            ELSE (SELECT CASE WHEN s.last_value BETWEEN $10 AND $10 + found.id - 1
                              THEN least(1, setval(:front_literal, $10 + found.id))::int4
                              ELSE 1 END
                  FROM :front AS s) END AS ord,
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
    FROM (SELECT k.priority,
                 CASE WHEN k.priority <> $8 THEN k.id
                      ELSE (SELECT setval(:front_literal, $10 + $1 +
                                          CASE WHEN NOT $11
                                                    AND s.last_value BETWEEN $10 AND $10 + 140737488355328
                                               THEN greatest(s.last_value - $10, $9)
                                               ELSE $9 END) - $10 - $1
                            FROM :front AS s) END AS id
          FROM unnest($6, $7::int8[]) AS k (priority, id)) AS cursor
    CROSS JOIN LATERAL (
        SELECT q.ctid AS place, q.id, q.updated, q.priority, q.attempts, q.payload, q.headers
        FROM :queue AS q
        WHERE q.entrypoint = ANY (ARRAY[$2]) AND q.status = 'queued' AND q.execute_after <= now()
              AND q.priority = cursor.priority AND q.id > cursor.id AND q.id <> ALL ($5)
              AND CASE WHEN q.xmax = 0 THEN true
                       WHEN age(q.xmax) BETWEEN (SELECT age(pg_snapshot_xmax(pg_current_snapshot())::xid)) - 10000
                                            AND (SELECT age(pg_snapshot_xmax(pg_current_snapshot())::xid))
                       THEN q.xmax = pg_current_xact_id_if_assigned()::xid
                       ELSE q.xmax NOT IN (SELECT running::xid
                                           FROM pg_snapshot_xip(pg_current_snapshot()) AS running)
                  END
        ORDER BY q.entrypoint, q.priority DESC, q.id
        LIMIT $1
        FOR UPDATE OF q SKIP LOCKED
    ) AS behind
    LIMIT $1
) AS found
