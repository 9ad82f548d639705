-- settle_quiet: ends leased jobs that were successful, in their transaction, without a word in the log.
-- They are counted instead, so it takes the extras.
-- $1 tid[]  places of the rows, which the transaction has locked
-- locks: none that the transaction does not have
-- index: none to find the rows
-- log: none
-- notify: table_changed_event delete, by the trigger, with the commit
/* pgqueuer lease */
WITH gone AS (
    DELETE FROM :queue
    WHERE ctid = ANY ($1)
    RETURNING priority, entrypoint
)
INSERT INTO :counts (statistics, second, entrypoint, priority, status, count)
SELECT :statistics_literal::regclass, date_trunc('sec', clock_timestamp(), 'UTC'), entrypoint,
       priority, 'successful', count(*)
FROM gone
GROUP BY entrypoint, priority
