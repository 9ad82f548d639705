-- lease_end: ends sessions of this role that hold jobs leased and are stuck in sending or receiving, as their
-- client is frozen or cut off: those are not idle, so that no timeout of theirs ends them.
-- $1 int8  how long the transaction must have lasted, in milliseconds
-- > ended int4    how many
-- locks: none
-- index: none
-- log: none
-- notify: none
SELECT count(*)::int4 AS ended
FROM (SELECT pg_terminate_backend(a.pid) AS ended
      FROM pg_stat_activity AS a
      WHERE a.datname = current_database() AND a.usename = current_user AND a.state = 'active'
            AND a.wait_event IN ('ClientRead', 'ClientWrite') AND a.query LIKE '/* pgqueuer lease */%'
            AND a.xact_start < clock_timestamp() - $1::int8 * interval '1 millisecond') AS stuck
WHERE ended
