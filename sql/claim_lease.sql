-- claim_lease: claims due jobs of one entrypoint by locking their rows, for as long as this transaction
-- lasts. It changes nothing: without a settle the jobs are free when the transaction ends. When the
-- client gives no sign for $4 while the transaction is open, the server ends the session.
-- In a backlog rows that a transaction has locked which runs, or has begun since the snapshot, are left
-- out before SKIP LOCKED has to: it takes two locks of the server's lock table to find that out of a row,
-- and with many lanes these cost more than all else. A row whose xmax is not a transaction but the id of
-- a group of lockers, as foreign keys make them, may be left out though it is free. A row that has changed
-- since the snapshot is looked at again when this transaction has locked it: then xmax is its own. The CASE
-- keeps the planner from guessing that free rows are rare.
-- $1 int4  jobs wanted
-- $2 text  entrypoint
-- $3 int4  bytes of a job's payload and headers at most; larger ones are left out
-- $4 text  the timeout, such as 2000ms
-- $5 int8[]  ids that are not wanted
-- $6 bool    whether every row is tried, also those that seem to be locked
-- > place tid, id int8, updated timestamptz, priority int4, attempts int4, ord int4, payload bytea,
-- > headers jsonb, large bool, picked timestamptz    in the order (priority DESC, id); ord is 1
-- locks: the rows, SKIP LOCKED, until the transaction ends
-- index: {queue}_ep_prio_id_idx
-- log: none
-- notify: none
/* pgqueuer lease */
SELECT q.ctid AS place, q.id, q.updated, q.priority, q.attempts, 1 AS ord,
       CASE WHEN coalesce(octet_length(q.payload), 0) + coalesce(octet_length(q.headers::text), 0) <= $3
            THEN q.payload END AS payload,
       CASE WHEN coalesce(octet_length(q.payload), 0) + coalesce(octet_length(q.headers::text), 0) <= $3
            THEN q.headers END AS headers,
       coalesce(octet_length(q.payload), 0) + coalesce(octet_length(q.headers::text), 0) > $3 AS large,
       now() AS picked
FROM :queue AS q
WHERE q.entrypoint = ANY (ARRAY[$2]) AND q.status = 'queued' AND q.execute_after <= now()
      AND q.id <> ALL ($5::int8[])
      AND CASE WHEN q.xmax = 0 OR $6 THEN true
               WHEN age(q.xmax) BETWEEN (SELECT age(pg_snapshot_xmax(pg_current_snapshot())::xid)) - 10000
                                    AND (SELECT age(pg_snapshot_xmax(pg_current_snapshot())::xid))
               THEN q.xmax = pg_current_xact_id_if_assigned()::xid
               ELSE q.xmax NOT IN (SELECT running::xid
                                   FROM pg_snapshot_xip(pg_current_snapshot()) AS running)
          END
      AND (SELECT set_config('idle_in_transaction_session_timeout', $4, true)) IS NOT NULL
ORDER BY q.entrypoint, q.priority DESC, q.id
LIMIT $1
FOR UPDATE OF q SKIP LOCKED
