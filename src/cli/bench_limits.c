/* What the given database makes slow: measured and read, without an object and a row of its own. */
#include "base/clock.h"
#include "cli/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TRIPS_US 300000 /* for all samples */
#define COMMITS_US 700000

/* It writes WAL and takes a transaction id, so its commit is synced and replicated as that of a
 * job; and nothing is left of it. */
#define COMMIT_SQL "SELECT pg_logical_emit_message(true, 'pgqueuer-bench', 'x')"

/* Of one statement again and again: at least twice, and as often as the time allows. The first one
 * counts for nothing, since it finds everything cold. */
static pgq_code sample(bench_db *db, const char *sql, int64_t budget_us, bench_series *series)
{
    int64_t end_us = clock_monotonic_us() + budget_us;
    bool first = true;

    series->count = 0;
    while (series->count < 2 || clock_monotonic_us() < end_us) {
        int64_t begin_us = clock_monotonic_us();
        pgq_code code = bench_db_run(db, sql, NULL, NULL);

        if (code != PGQ_OK) {
            series->count = 0;
            return code;
        }
        if (!first)
            series->values[series->count++] = (double)(clock_monotonic_us() - begin_us) / 1000;
        if (series->count == BENCH_ROUNDS_MAX)
            break;
        first = false;
    }
    return PGQ_OK;
}

/* One text; "" for NULL, for a refusal, and for no row. */
static void text_of(bench_db *db, const char *sql, char *text, size_t size)
{
    PGresult *result = NULL;

    text[0] = '\0';
    if (bench_db_run(db, sql, &result, NULL) == PGQ_OK && PQntuples(result) > 0)
        (void)snprintf(text, size, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    for (char *at = text; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = ' '; /* others name their sessions and slots */
    }
}

/* The server's cores are this machine's, if it is here. A pooler hides where the server is. */
static void look_around(bench_db *db, bench_limits *l)
{
    char here[8];
    int pid = (int)bench_db_number(db, "SELECT pg_backend_pid()");

    l->pooled = pid != PQbackendPID(db->conn);
    text_of(db,
            "SELECT inet_server_addr() IS NULL OR inet_server_addr() = inet_client_addr() OR "
            "inet_server_addr() << '127.0.0.0/8' OR inet_server_addr() = '::1'",
            here, sizeof(here));
    l->here = !l->pooled && base_streq(here, "t");
    l->cores = l->here ? (int)sysconf(_SC_NPROCESSORS_ONLN) : 0;
    l->standby = bench_db_number(db, "SELECT pg_is_in_recovery()::int") > 0;
}

/* As sql/horizon.sql, with what the sessions are. */
static void read_horizon(bench_db *db, bench_limits *l)
{
#define AGE "greatest(age(a.backend_xmin), age(a.backend_xid))::int8"
#define HOLDERS                                                                                   \
    "(SELECT concat_ws(' ', 'session', a.pid, nullif(a.application_name, ''), a.usename, "        \
    "a.state) "                                                                                   \
    "AS name, " AGE " AS age, extract(epoch FROM now() - a.xact_start)::float8 AS seconds FROM "  \
    "pg_stat_activity AS a WHERE a.pid <> pg_backend_pid() AND a.datname = current_database() "   \
    "UNION ALL SELECT 'prepared transaction ' || p.gid, age(p.transaction)::int8, extract(epoch " \
    "FROM now() - p.prepared)::float8 FROM pg_prepared_xacts AS p WHERE p.database = "            \
    "current_database() UNION ALL SELECT 'replication slot ' || s.slot_name, age(s.xmin)::int8, " \
    "NULL FROM pg_replication_slots AS s UNION ALL SELECT 'standby ' || r.application_name, "     \
    "age(r.backend_xmin)::int8, NULL FROM pg_stat_replication AS r) AS h"
#define OLDEST \
    " FROM " HOLDERS " WHERE h.age IS NOT NULL ORDER BY h.age DESC, h.seconds DESC LIMIT 1"

    text_of(db, "SELECT h.name" OLDEST, l->holder, sizeof(l->holder));
    l->holder_age = bench_db_number(db, "SELECT h.age" OLDEST);
    l->holder_seconds = bench_db_number(db, "SELECT h.seconds" OLDEST);
    l->long_transactions = bench_db_number(
        db, "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = "
            "current_database() AND xact_start < now() - interval '1 minute'");
    l->idle_slots =
        bench_db_number(db, "SELECT count(*) FROM pg_replication_slots WHERE NOT active");
    l->kept_wal_bytes = bench_db_number(db, "SELECT max(pg_current_wal_lsn() - restart_lsn) FROM "
                                            "pg_replication_slots WHERE NOT active");
}

static void read_settings(bench_db *db, bench_limits *l)
{
    static const char *const names[BENCH_LIMIT_SETTINGS] = {
        [BENCH_SET_FSYNC] = "fsync",
        [BENCH_SET_SYNCHRONOUS_COMMIT] = "synchronous_commit",
        [BENCH_SET_STANDBYS] = "synchronous_standby_names",
        [BENCH_SET_FULL_PAGE_WRITES] = "full_page_writes",
        [BENCH_SET_WAL_COMPRESSION] = "wal_compression",
        [BENCH_SET_AUTOVACUUM] = "autovacuum",
        [BENCH_SET_MAX_CONNECTIONS] = "max_connections",
    };

    for (int i = 0; i < BENCH_LIMIT_SETTINGS; i++) {
        char sql[96];

        (void)snprintf(sql, sizeof(sql), "SELECT current_setting('%s')", names[i]);
        (void)snprintf(l->settings[i].name, sizeof(l->settings[i].name), "%s", names[i]);
        text_of(db, sql, l->settings[i].value, sizeof(l->settings[i].value));
    }
    l->connections = bench_db_number(
        db, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'");
}

pgq_code bench_limits_measure(bench_db *db, bench_limits *l, pgq_error *err)
{
    pgq_code code = bench_db_run(db, "SELECT 1", NULL, err);

    *l = (bench_limits){.here = false};
    if (code != PGQ_OK)
        return code;
    look_around(db, l);
    read_horizon(db, l);
    read_settings(db, l);
    (void)sample(db, "SELECT 1", TRIPS_US, &l->trips_ms);
    (void)sample(db, COMMIT_SQL, COMMITS_US, &l->commits_ms);
    if (bench_interrupted())
        return bench_interruption(err);
    code = bench_db_check(db, err);
    if (code == PGQ_OK)
        bench_limits_judge(l);
    return code;
}
