-- fold_counts: moves the counts of settles into the statistics, in chunks of 10 000, for a second at
-- most. One worker at a time, by an advisory lock of its own, so that a fold of the log, which does not see
-- to the counts, is not taken for one that does; other locks as aggregate. Rows of another installation are
-- not touched.
-- locks: advisory, for the transaction; statistics SHARE ROW EXCLUSIVE; the counts
-- index: {statistics}_unique_count
-- log: none
-- notify: none
DO $fold$
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext(:statistics_lock_literal), 1) THEN
        RETURN;
    END IF;
    PERFORM set_config('lock_timeout', '2s', true);
    LOCK TABLE :statistics IN SHARE ROW EXCLUSIVE MODE;
    LOOP
        WITH picked_out AS MATERIALIZED (
            SELECT c.ctid AS place
            FROM :counts AS c
            WHERE c.statistics = :statistics_literal::regclass
            LIMIT 10000
            FOR UPDATE SKIP LOCKED
        ), taken AS (
            DELETE FROM :counts AS c
            WHERE c.ctid = ANY (ARRAY(SELECT place FROM picked_out))
            RETURNING c.second, c.count, c.priority, c.status, c.entrypoint
        )
        INSERT INTO :statistics AS s (created, count, priority, status, entrypoint)
        SELECT second, sum(count), priority, status:::status, entrypoint
        FROM taken
        GROUP BY second, priority, status, entrypoint
        ORDER BY second, priority, status, entrypoint
        ON CONFLICT (priority, date_trunc('sec'::text, timezone('UTC'::text, created)), status,
                     entrypoint)
        DO UPDATE SET count = s.count + excluded.count;
        EXIT WHEN NOT FOUND OR clock_timestamp() > now() + interval '1 second';
    END LOOP;
END
$fold$
