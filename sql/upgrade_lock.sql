-- upgrade_lock: takes the advisory lock of the catalogue for the session, if nobody has it. Whoever
-- waited for it inside a statement would keep a snapshot, which an index build waits for.
-- $1 int8  key
-- > taken bool; holder text, who has it, as a text for people; NULL when it was taken
-- locks: advisory, for the session
WITH tried AS MATERIALIZED (
    SELECT pg_try_advisory_lock($1) AS taken
)

SELECT
    tried.taken,
    CASE
        WHEN NOT tried.taken
            THEN coalesce(
                (
                    SELECT string_agg(
                        'pid ' || l.pid::text
                        || coalesce(' (' || nullif(a.application_name, '') || ')', ''),
                        '; ' ORDER BY l.pid
                    )
                    FROM pg_catalog.pg_locks AS l
                    LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
                    WHERE
                        l.locktype = 'advisory'
                        AND l.granted
                        AND l.objsubid = 1
                        AND l.database = (
                            SELECT d.oid FROM pg_catalog.pg_database AS d
                            WHERE d.datname = current_database()
                        )
                        AND (l.classid::int8 << 32 | l.objid::int8) = $1
                ), 'a session that has gone'
            )
    END AS holder
FROM tried
