-- upgrade_blockers: who keeps a session waiting, as a text for people, the oldest transaction first.
-- Another role's state and times may be hidden from this one.
-- $1 int4  process id of the session that waits
-- > blocker text, NULL when nobody does; autovacuum bool, the server's own work is among them
-- locks: none beyond AccessShare on the catalogue
SELECT
    string_agg(described.who, '; ' ORDER BY described.since NULLS LAST, described.pid) AS blocker,
    coalesce(bool_or(described.autovacuum), false) AS autovacuum
FROM (
    SELECT
        b.pid,
        a.backend_type = 'autovacuum worker' AS autovacuum,
        a.xact_start AS since,
        CASE
            WHEN b.pid = 0 THEN 'a prepared transaction'
            ELSE
                'pid ' || b.pid::text
                || coalesce(
                    ' ('
                    || concat_ws(
                        ', ', nullif(a.backend_type, 'client backend'),
                        nullif(a.usename::text, ''), nullif(a.application_name, ''), a.state
                    )
                    || ')', ''
                )
                || coalesce(
                    ', in a transaction since '
                    || to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), ''
                )
        END AS who
    FROM (SELECT DISTINCT unnest(pg_blocking_pids($1)) AS pid LIMIT 3) AS b
    LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = b.pid
) AS described
