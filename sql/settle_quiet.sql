-- settle_quiet: ends leased jobs that were successful, in their transaction, without a word in the log.
-- They are counted instead, so it takes the extras.
-- $1 tid[]  places of the rows, which the transaction has locked
-- $2 text   now; later: the event of the delete is not sent, whoever calls this announces it
-- locks: none that the transaction does not have
-- index: none to find the rows
-- log: none
-- notify: table_changed_event delete, by the trigger, with the commit; none if $2 is later and the
-- trigger's function is ours
/* pgqueuer lease */
WITH gone AS (
    DELETE FROM :queue
    WHERE ctid = ANY ($1) AND (SELECT set_config('pgqueuer_c.events', $2, true)) IS NOT NULL
    RETURNING priority, entrypoint
)
INSERT INTO :counts (statistics, second, entrypoint, priority, status, count)
SELECT :statistics_literal::regclass, date_trunc('sec', clock_timestamp(), 'UTC'), entrypoint,
       priority, 'successful', count(*)
FROM gone
GROUP BY entrypoint, priority
