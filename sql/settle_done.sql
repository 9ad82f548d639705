-- settle_done: ends leased jobs that were successful, in their transaction, and logs it.
-- $1 tid[]  places of the rows, which the transaction has locked
-- $2 int4   log rows a job: 1, its end; 2, with `picked` before it
-- $3 text   now; later: the event of the delete is not sent, whoever calls this announces it
-- locks: none that the transaction does not have
-- index: none to find the rows
-- log: successful, and picked, $2 a job; times are those of the claim and of the settle
-- counted: what is logged, into the counts; such log rows count as aggregated
-- notify: table_changed_event delete, by the trigger, with the commit; none if $3 is later and the
-- trigger's function is ours
/* pgqueuer lease */
WITH moment AS MATERIALIZED (
    SELECT clock_timestamp() AS ended
), gone AS (
    DELETE FROM :queue
    WHERE ctid = ANY ($1) AND (SELECT set_config('pgqueuer_c.events', $3, true)) IS NOT NULL
    RETURNING id, priority, entrypoint
), kind AS MATERIALIZED (
    SELECT 'picked' AS status, now() AS created WHERE $2 = 2
    UNION ALL
    SELECT 'successful', ended FROM moment
), counts AS ( -- counted
    INSERT INTO :counts (statistics, second, entrypoint, priority, status, count) -- counted
    SELECT :statistics_literal::regclass, date_trunc('sec', kind.created, 'UTC'), -- counted
           g.entrypoint, g.priority, kind.status, g.count -- counted
    FROM (SELECT entrypoint, priority, count(*) AS count -- counted
          FROM gone -- counted
          GROUP BY entrypoint, priority) AS g CROSS JOIN kind -- counted
)
INSERT INTO :log (created, job_id, status, priority, entrypoint, aggregated)
SELECT kind.created, gone.id, kind.status:::status, gone.priority, gone.entrypoint, false -- uncounted
SELECT kind.created, gone.id, kind.status:::status, gone.priority, gone.entrypoint, true -- counted
FROM gone CROSS JOIN kind
