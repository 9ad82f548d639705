-- horizon: who holds back the removal of dead rows: the oldest snapshot, prepared transaction, replication
-- slot or standby of this database's server. None, if none is older than ours. Sessions count whose
-- transaction is not young, since those of leases are not the cause, or whose transaction this role may not
-- see. What a slot keeps of the catalogs (catalog_xmin) keeps no row of ours.
-- > kind text, name text, pid int4, age int8    age in transactions; pid NULL where there is none
-- locks: none
-- index: none
-- log: none
-- notify: none
SELECT h.kind, h.name, h.pid, h.age
FROM (
    SELECT 'session' AS kind,
           concat_ws(' ', nullif(a.application_name, ''), a.usename, a.state) AS name, a.pid,
           greatest(age(a.backend_xmin), age(a.backend_xid))::int8 AS age
    FROM pg_stat_activity AS a
    WHERE a.pid <> pg_backend_pid() AND a.datname = current_database()
          AND coalesce(a.xact_start < now() - interval '10 seconds', true)
    UNION ALL
    SELECT 'prepared transaction', p.gid, NULL, age(p.transaction)::int8
    FROM pg_prepared_xacts AS p
    WHERE p.database = current_database()
    UNION ALL
    SELECT 'replication slot', s.slot_name::text, s.active_pid, age(s.xmin)::int8
    FROM pg_replication_slots AS s
    UNION ALL
    SELECT 'standby', r.application_name, r.pid, age(r.backend_xmin)::int8
    FROM pg_stat_replication AS r
) AS h
WHERE h.age > 0
ORDER BY h.age DESC
LIMIT 1
