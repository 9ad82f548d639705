/* The statements of the bare loop. */
#ifndef BENCH_BARE_SQL_H
#define BENCH_BARE_SQL_H

/* As the files of these names in sql/ have it, word for word; a test compares them. */
static const struct {
    const char *name, *sql;
} statements[] = {
    {"begin", "BEGIN"},
    {"commit", "COMMIT"},
    {"claim_lease",
     "SELECT q.ctid AS place, q.id, q.updated, q.priority, q.attempts, 1 AS ord,\n"
     "       CASE WHEN coalesce(octet_length(q.payload), 0) + "
     "coalesce(octet_length(q.headers::text), 0) <= $3\n"
     "            THEN q.payload END AS payload,\n"
     "       CASE WHEN coalesce(octet_length(q.payload), 0) + "
     "coalesce(octet_length(q.headers::text), 0) <= $3\n"
     "            THEN q.headers END AS headers,\n"
     "       coalesce(octet_length(q.payload), 0) + "
     "coalesce(octet_length(q.headers::text), 0) > $3 "
     "AS large,\n"
     "       now() AS picked\n"
     "FROM :queue AS q\n"
     "WHERE q.entrypoint = $2 AND q.status = 'queued' AND q.execute_after <= now()\n"
     "      AND q.id <> ALL ($5::int8[])\n"
     "      AND (SELECT set_config('idle_in_transaction_session_timeout', $4, true)) IS NOT NULL\n"
     "ORDER BY q.priority DESC, q.id\n"
     "LIMIT $1\n"
     "FOR UPDATE OF q SKIP LOCKED\n"},
    {"claim_lease_after",
     "SELECT place, id, updated, priority, attempts, 1 AS ord,\n"
     "       CASE WHEN coalesce(octet_length(payload), 0) + "
     "coalesce(octet_length(headers::text), 0) <= $3\n"
     "            THEN payload END AS payload,\n"
     "       CASE WHEN coalesce(octet_length(payload), 0) + "
     "coalesce(octet_length(headers::text), 0) <= $3\n"
     "            THEN headers END AS headers,\n"
     "       coalesce(octet_length(payload), 0) + "
     "coalesce(octet_length(headers::text), 0) > $3 "
     "AS large,\n"
     "       now() AS picked\n"
     "FROM (\n"
     "    SELECT above.*\n"
     "    FROM (SELECT q.ctid AS place, q.id, q.updated, q.priority, q.attempts, q.payload, "
     "q.headers\n"
     "          FROM :queue AS q\n"
     "          WHERE q.entrypoint = $2 AND q.status = 'queued' AND q.execute_after <= now()\n"
     "                AND q.priority > ($6::int4[])[1] AND q.id <> ALL ($5::int8[])\n"
     "                AND (SELECT set_config('idle_in_transaction_session_timeout', $4, true)) IS "
     "NOT NULL\n"
     "          ORDER BY q.priority DESC, q.id\n"
     "          LIMIT $1\n"
     "          FOR UPDATE OF q SKIP LOCKED) AS above\n"
     "    UNION ALL\n"
     "    SELECT behind.*\n"
     "    FROM unnest($6, $7::int8[]) AS cursor (priority, id)\n"
     "    CROSS JOIN LATERAL (\n"
     "        SELECT q.ctid AS place, q.id, q.updated, q.priority, q.attempts, q.payload, "
     "q.headers\n"
     "        FROM :queue AS q\n"
     "        WHERE q.entrypoint = $2 AND q.status = 'queued' AND q.execute_after <= now()\n"
     "              AND q.priority = cursor.priority AND q.id > cursor.id AND q.id <> ALL ($5)\n"
     "              AND CASE q.xmax WHEN 0 THEN true ELSE false END\n"
     "        ORDER BY q.priority DESC, q.id\n"
     "        LIMIT $1\n"
     "        FOR UPDATE OF q SKIP LOCKED\n"
     "    ) AS behind\n"
     "    LIMIT $1\n"
     ") AS found\n"},
    {"settle_done_counted",
     "WITH moment AS MATERIALIZED (\n"
     "    SELECT clock_timestamp() AS ended\n"
     "), gone AS (\n"
     "    DELETE FROM :queue\n"
     "    WHERE ctid = ANY ($1)\n"
     "    RETURNING id, priority, entrypoint\n"
     "), kind AS MATERIALIZED (\n"
     "    SELECT 'picked' AS status, now() AS created WHERE $2 = 2\n"
     "    UNION ALL\n"
     "    SELECT 'successful', ended FROM moment\n"
     "), counts AS (\n"
     "    INSERT INTO :counts (statistics, second, entrypoint, priority, status, count)\n"
     "    SELECT :statistics_literal::regclass, date_trunc('sec', kind.created, 'UTC'),\n"
     "           g.entrypoint, g.priority, kind.status, g.count\n"
     "    FROM (SELECT entrypoint, priority, count(*) AS count\n"
     "          FROM gone\n"
     "          GROUP BY entrypoint, priority) AS g CROSS JOIN kind\n"
     ")\n"
     "INSERT INTO :log (created, job_id, status, priority, entrypoint, aggregated)\n"
     "SELECT kind.created, gone.id, kind.status:::status, gone.priority, gone.entrypoint, true\n"
     "FROM gone CROSS JOIN kind\n"},
    {"settle_quiet",
     "WITH gone AS (\n"
     "    DELETE FROM :queue\n"
     "    WHERE ctid = ANY ($1)\n"
     "    RETURNING priority, entrypoint\n"
     ")\n"
     "INSERT INTO :counts (statistics, second, entrypoint, priority, status, count)\n"
     "SELECT :statistics_literal::regclass, date_trunc('sec', clock_timestamp(), 'UTC'), "
     "entrypoint,\n"
     "       priority, 'successful', count(*)\n"
     "FROM gone\n"
     "GROUP BY entrypoint, priority\n"},
};

#endif
