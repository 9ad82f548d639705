/* The document of a benchmark: everything that the table shows, and every round. */
#include "base/error.h"
#include "cli/bench.h"
#include "revision.gen.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

/* What separates a member from the one before it. */
static void key(buffer *out, bool *first, const char *name)
{
    if (!*first)
        buffer_add_char(out, ',');
    *first = false;
    buffer_add_json(out, name, strlen(name));
    buffer_add_char(out, ':');
}

static void text_member(buffer *out, bool *first, const char *name, const char *text)
{
    key(out, first, name);
    buffer_add_json(out, text, strlen(text));
}

static void number(buffer *out, double value)
{
    if (isfinite(value))
        buffer_add_format(out, "%.12g", value);
    else
        buffer_add_text(out, "null");
}

static void number_member(buffer *out, bool *first, const char *name, double value)
{
    key(out, first, name);
    number(out, value);
}

static void flag_member(buffer *out, bool *first, const char *name, bool value)
{
    key(out, first, name);
    buffer_add_text(out, value ? "true" : "false");
}

static void add_machine(buffer *out)
{
    bench_machine machine;
    bool first = true;

    bench_look_at_machine(&machine);
    buffer_add_char(out, '{');
    number_member(out, &first, "cores", machine.cores);
    text_member(out, &first, "model", machine.model);
    number_member(out, &first, "memory_bytes", (double)machine.memory_bytes);
    text_member(out, &first, "system", machine.system);
    buffer_add_char(out, '}');
}

static void add_server(buffer *out, const bench_db *db)
{
    bool first = true;

    buffer_add_char(out, '{');
    text_member(out, &first, "version", db->version);
    flag_member(out, &first, "checkpoints", db->checkpoints);
    flag_member(out, &first, "pg_stat_statements", db->statements);
    key(out, &first, "settings");
    buffer_add_char(out, '{');
    first = true;
    for (int i = 0; i < db->setting_count; i++)
        text_member(out, &first, db->settings[i].name, db->settings[i].value);
    buffer_add_text(out, "}}");
}

static void add_options(buffer *out, const bench *b)
{
    bool first = true;

    buffer_add_char(out, '{');
    number_member(out, &first, "jobs", (double)b->jobs);
    number_member(out, &first, "rounds", b->rounds);
    number_member(out, &first, "workers", b->workers);
    number_member(out, &first, "batch_size", b->batch_size);
    number_member(out, &first, "lanes", b->lanes);
    number_member(out, &first, "threads", b->threads);
    number_member(out, &first, "lease_ms", (double)b->lease_ms);
    buffer_add_char(out, '}');
}

static void add_series(buffer *out, const bench_series *series)
{
    double least, most;
    bool first = true;

    bench_spread(series, &least, &most);
    buffer_add_char(out, '{');
    number_member(out, &first, "median", bench_median(series));
    number_member(out, &first, "min", least);
    number_member(out, &first, "max", most);
    key(out, &first, "rounds");
    buffer_add_char(out, '[');
    for (int i = 0; i < series->count; i++) {
        if (i > 0)
            buffer_add_char(out, ',');
        number(out, series->values[i]);
    }
    buffer_add_text(out, "]}");
}

static void add_way(buffer *out, const bench *b, const bench_way *way)
{
    bool first = true;

    buffer_add_char(out, '{');
    text_member(out, &first, "name", way->name);
    flag_member(out, &first, "bare", way->bare);
    flag_member(out, &first, "defaults", way->plain);
    if (!way->bare)
        text_member(out, &first, "lane", bench_lane_names[way->lane]);
    else
        flag_member(out, &first, "cursor", way->cursor);
    text_member(out, &first, "log_policy", bench_policy_names[way->policy]);
    if (b->kind == BENCH_HORIZON)
        flag_member(out, &first, "held", way->held);
    if (b->kind == BENCH_BACKLOG)
        number_member(out, &first, "queued", (double)bench_backlog_size(b, way->place));
    for (int metric = 0; metric < BENCH_METRICS; metric++) {
        if (way->series[metric].count == 0)
            continue;
        key(out, &first, bench_metric_names[metric]);
        add_series(out, &way->series[metric]);
    }
    buffer_add_char(out, '}');
}

static void add_budget(buffer *out, const bench_budget *budget)
{
    bool first = true;

    buffer_add_char(out, '{');
    text_member(out, &first, "what", budget->what);
    number_member(out, &first, budget->at_least ? "at_least" : "at_most", budget->need);
    text_member(out, &first, "unit", budget->unit);
    number_member(out, &first, "is", budget->got);
    text_member(out, &first, "verdict",
                isnan(budget->got)          ? "not measured"
                : bench_budget_kept(budget) ? "ok"
                                            : "missed");
    buffer_add_char(out, '}');
}

static void add_horizon(buffer *out, const bench_limits *l)
{
    bool first = true;

    if (l->holder[0] == '\0') {
        buffer_add_text(out, "null");
        return;
    }
    buffer_add_char(out, '{');
    text_member(out, &first, "holder", l->holder);
    number_member(out, &first, "age", l->holder_age);
    number_member(out, &first, "seconds", l->holder_seconds);
    buffer_add_char(out, '}');
}

static void add_findings(buffer *out, const bench_limits *l)
{
    buffer_add_char(out, '[');
    for (int i = 0; i < l->finding_count; i++) {
        bool first = true;

        buffer_add_text(out, i > 0 ? ",{" : "{");
        text_member(out, &first, "about", l->findings[i].about);
        text_member(out, &first, "is", l->findings[i].is);
        text_member(out, &first, "helps", l->findings[i].helps);
        buffer_add_char(out, '}');
    }
    buffer_add_char(out, ']');
}

static void add_limits(buffer *out, const bench_limits *l)
{
    bool first = true, first_setting = true;

    buffer_add_char(out, '{');
    text_member(out, &first, "limit", bench_limit_name(l->limit));
    key(out, &first, "round_trip_ms");
    add_series(out, &l->trips_ms);
    key(out, &first, "commit_ms");
    add_series(out, &l->commits_ms);
    flag_member(out, &first, "pooled", l->pooled);
    flag_member(out, &first, "standby", l->standby);
    number_member(out, &first, "cores", l->here ? (double)l->cores : (double)NAN);
    key(out, &first, "horizon");
    add_horizon(out, l);
    number_member(out, &first, "long_transactions", l->long_transactions);
    number_member(out, &first, "connections", l->connections);
    number_member(out, &first, "idle_slots", l->idle_slots);
    number_member(out, &first, "kept_wal_bytes", l->kept_wal_bytes);
    key(out, &first, "settings");
    buffer_add_char(out, '{');
    for (int i = 0; i < BENCH_LIMIT_SETTINGS; i++)
        text_member(out, &first_setting, l->settings[i].name, l->settings[i].value);
    buffer_add_char(out, '}');
    key(out, &first, "findings");
    add_findings(out, l);
    buffer_add_char(out, '}');
}

static void add_figures(buffer *out, bool *first, const bench *b)
{
    bench_budget budgets[BENCH_BUDGETS_MAX];
    int budget_count = bench_budgets(b, budgets);

    key(out, first, "ways");
    for (int i = 0; i < b->way_count; i++) {
        buffer_add_char(out, i > 0 ? ',' : '[');
        add_way(out, b, &b->ways[i]);
    }
    buffer_add_char(out, ']');
    key(out, first, "budgets");
    buffer_add_char(out, '[');
    for (int i = 0; i < budget_count; i++) {
        if (i > 0)
            buffer_add_char(out, ',');
        add_budget(out, &budgets[i]);
    }
    buffer_add_char(out, ']');
}

static void add_document(buffer *out, const bench *b)
{
    bool first = true;

    buffer_add_char(out, '{');
    text_member(out, &first, "bench", bench_kind_names[b->kind]);
    text_member(out, &first, "version", PGQ_VERSION_TEXT);
    text_member(out, &first, "revision", CLI_REVISION);
    if (b->kind != BENCH_LIMITS) {
        key(out, &first, "options");
        add_options(out, b);
    }
    key(out, &first, "machine");
    add_machine(out);
    key(out, &first, "server");
    add_server(out, &b->db);
    if (b->kind != BENCH_LIMITS)
        add_figures(out, &first, b);
    key(out, &first, "limits");
    add_limits(out, &b->limits);
    buffer_add_text(out, "}\n");
}

static pgq_code write_file(const char *path, const buffer *content, pgq_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool done = fd >= 0 && cli_write(fd, content->data, content->len);

    if (fd >= 0 && close(fd) != 0)
        done = false;
    if (done)
        return PGQ_OK;
    (void)error_set(err, PGQ_E_IO, "the document cannot be written: %s", strerror(errno));
    error_where(err, "%s", path);
    return PGQ_E_IO;
}

pgq_code bench_write_json(const bench *b, const char *path, pgq_error *err)
{
    buffer out = BUFFER_INIT;
    pgq_code code = PGQ_OK;

    add_document(&out, b);
    if (out.broken)
        code = error_nomem(err);
    else if (path != NULL)
        code = write_file(path, &out, err);
    else
        (void)fwrite(out.data, 1, out.len, stdout);
    buffer_release(&out);
    return code;
}
