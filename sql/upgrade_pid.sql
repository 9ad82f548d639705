-- upgrade_pid: the process that answers. It is another one than the connection was given when a
-- pooler stands between.
-- > pid int4
-- locks: none
SELECT pg_backend_pid() AS pid
