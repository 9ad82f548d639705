-- aggregate: folds log rows that are not aggregated yet into the statistics, in chunks of 10 000, for
-- a second at most. One worker at a time: whoever does not get the advisory lock, which Python's workers take
-- too, does nothing. The table lock keeps out readers of Python's that aggregate without the advisory
-- lock, and is taken before the chunk's snapshot: what they have counted is seen as counted. The count
-- is that of the rows which were marked here.
-- locks: advisory, for the transaction; statistics SHARE ROW EXCLUSIVE; the log rows
-- index: {log}_not_aggregated, {statistics}_unique_count
-- log: none
-- notify: none
DO $aggregate$
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext(:statistics_lock_literal)) THEN
        RETURN;
    END IF;
    PERFORM set_config('lock_timeout', '2s', true);
    LOCK TABLE :statistics IN SHARE ROW EXCLUSIVE MODE;
    LOOP
        WITH picked_out AS MATERIALIZED (
            SELECT l.id
            FROM :log AS l
            WHERE NOT l.aggregated
            LIMIT 10000
            FOR UPDATE SKIP LOCKED
        ), marked AS (
            UPDATE :log AS l
            SET aggregated = true
            WHERE l.id = ANY (ARRAY(SELECT id FROM picked_out)) AND NOT l.aggregated
            RETURNING l.priority, l.status, l.entrypoint,
                      date_trunc('sec', l.created, 'UTC') AS second
        )
        INSERT INTO :statistics AS s (created, count, priority, status, entrypoint)
        SELECT second, count(*), priority, status, entrypoint
        FROM marked
        GROUP BY second, priority, status, entrypoint
        ORDER BY second, priority, status, entrypoint
        ON CONFLICT (priority, date_trunc('sec'::text, timezone('UTC'::text, created)), status,
                     entrypoint)
        DO UPDATE SET count = s.count + excluded.count;
        EXIT WHEN NOT FOUND OR clock_timestamp() > now() + interval '1 second';
    END LOOP;
END
$aggregate$
