/* The table of a benchmark, and the machine that it ran on. */
#include "cli/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { NAME_WIDTH = 40, CELL_BYTES = 48 };

/* The columns of a kind; `digits` behind the point. */
typedef struct column {
    bench_metric metric;
    const char *head;
    int digits;
    bool spread;
} column;

static const column drain_columns[] = {
    {BENCH_RATE, "jobs/s", 0, true},       {BENCH_WAL, "WAL B", 0, false},
    {BENCH_IMAGES, "images", 0, false},    {BENCH_COMMITS, "commits", 4, false},
    {BENCH_STATEMENTS, "stmts", 4, false}, {BENCH_DEAD, "dead", 2, false},
    {BENCH_CPU, "CPU us", 2, false},       {BENCH_RSS, "MiB", 1, false},
};
static const column latency_columns[] = {
    {BENCH_P50, "p50 ms", 3, true},  {BENCH_P99, "p99 ms", 3, true},
    {BENCH_MAX, "max ms", 3, false}, {BENCH_CPU, "CPU us", 0, false},
    {BENCH_RSS, "MiB", 1, false},
};
static const column horizon_columns[] = {
    {BENCH_RATE, "jobs/s", 0, true},    {BENCH_FIRST_RATE, "first", 0, false},
    {BENCH_LAST_RATE, "last", 0, true}, {BENCH_DEAD_ROWS, "dead rows", 0, false},
    {BENCH_CPU, "CPU us", 2, false},    {BENCH_RSS, "MiB", 1, false},
};

static const struct {
    const column *columns;
    size_t count;
} tables[] = {
    [BENCH_DRAIN] = {drain_columns, BASE_COUNT(drain_columns)},
    [BENCH_LATENCY] = {latency_columns, BASE_COUNT(latency_columns)},
    [BENCH_HORIZON] = {horizon_columns, BASE_COUNT(horizon_columns)},
    [BENCH_BACKLOG] = {drain_columns, BASE_COUNT(drain_columns)},
};

const char *const bench_metric_names[BENCH_METRICS] = {
    [BENCH_RATE] = "jobs_per_s",
    [BENCH_P50] = "p50_ms",
    [BENCH_P99] = "p99_ms",
    [BENCH_MAX] = "max_ms",
    [BENCH_FIRST_RATE] = "first_jobs_per_s",
    [BENCH_LAST_RATE] = "last_jobs_per_s",
    [BENCH_WAL] = "wal_bytes_per_job",
    [BENCH_IMAGES] = "full_page_images",
    [BENCH_COMMITS] = "commits_per_job",
    [BENCH_STATEMENTS] = "statements_per_job",
    [BENCH_CPU] = "worker_cpu_us_per_job",
    [BENCH_RSS] = "worker_rss_mib",
    [BENCH_DEAD] = "dead_tuples_per_job",
    [BENCH_DEAD_ROWS] = "dead_rows",
};

/* The value of the first line `key : value` of a file of /proc; "" when there is none. */
static void read_proc(const char *path, const char *key, char *value, size_t size)
{
    FILE *file = fopen(path, "re");
    char line[512];

    value[0] = '\0';
    while (file != NULL && value[0] == '\0' && fgets(line, sizeof(line), file) != NULL) {
        const char *colon = strchr(line, ':');

        if (strncmp(line, key, strlen(key)) != 0 || colon == NULL)
            continue;
        colon += 1 + strspn(colon + 1, " \t");
        (void)snprintf(value, size, "%.*s", (int)strcspn(colon, "\n"), colon);
    }
    if (file != NULL)
        (void)fclose(file);
}

void bench_look_at_machine(bench_machine *machine)
{
    struct utsname name;
    char memory[64];

    *machine = (bench_machine){.cores = (int)sysconf(_SC_NPROCESSORS_ONLN)};
    read_proc("/proc/cpuinfo", "model name", machine->model, sizeof(machine->model));
    read_proc("/proc/meminfo", "MemTotal", memory, sizeof(memory));
    machine->memory_bytes = strtoll(memory, NULL, 10) * 1024;
    if (uname(&name) == 0)
        (void)snprintf(machine->system, sizeof(machine->system), "%.24s %.48s %.16s", name.sysname,
                       name.release, name.machine);
}

static void print_conditions(const bench *b)
{
    bench_machine machine;

    bench_look_at_machine(&machine);
    if (b->kind == BENCH_LIMITS)
        (void)printf("pgqueuer %s bench limits\n", PGQ_VERSION_TEXT);
    else
        (void)printf(
            "pgqueuer %s bench %s: %lld jobs, %d round%s, %d worker%s, batch %d, %d lanes\n",
            PGQ_VERSION_TEXT, bench_kind_names[b->kind], (long long)b->jobs, b->rounds,
            b->rounds == 1 ? "" : "s", b->workers, b->workers == 1 ? "" : "s", b->batch_size,
            b->lanes);
    (void)printf("%d cores, %s, %.1f GiB, %s\n", machine.cores, machine.model,
                 (double)machine.memory_bytes / 1073741824, machine.system);
    (void)printf("PostgreSQL %s:", b->db.version);
    for (int i = 0; i < b->db.setting_count; i++)
        (void)printf(" %s %s%s", b->db.settings[i].name, b->db.settings[i].value,
                     i + 1 < b->db.setting_count ? "," : "\n");
}

/* The median, and of some columns the smallest and the largest; a figure that is not there: "-". */
static void format_cell(const column *c, const bench_series *series, char text[CELL_BYTES])
{
    double middle = bench_median(series), least, most;

    bench_spread(series, &least, &most);
    if (isnan(middle))
        (void)snprintf(text, CELL_BYTES, "-");
    else if (c->spread && series->count > 1)
        (void)snprintf(text, CELL_BYTES, "%.*f (%.*f-%.*f)", c->digits, middle, c->digits, least,
                       c->digits, most);
    else
        (void)snprintf(text, CELL_BYTES, "%.*f", c->digits, middle);
}

static int width_of(const bench *b, const column *c)
{
    char cell[CELL_BYTES];
    size_t width = strlen(c->head);

    for (int i = 0; i < b->way_count; i++) {
        format_cell(c, &b->ways[i].series[c->metric], cell);
        if (strlen(cell) > width)
            width = strlen(cell);
    }
    return (int)width;
}

static void print_ways(const bench *b)
{
    const column *columns = tables[b->kind].columns;
    size_t count = tables[b->kind].count;
    char cell[CELL_BYTES];

    (void)printf("\n%-*s", NAME_WIDTH, "median (min-max)");
    for (size_t i = 0; i < count; i++)
        (void)printf("  %*s", width_of(b, &columns[i]), columns[i].head);
    (void)putchar('\n');
    for (int way = 0; way < b->way_count; way++) {
        (void)printf("%-*s", NAME_WIDTH, b->ways[way].name);
        for (size_t i = 0; i < count; i++) {
            format_cell(&columns[i], &b->ways[way].series[columns[i].metric], cell);
            (void)printf("  %*s", width_of(b, &columns[i]), cell);
        }
        (void)putchar('\n');
    }
}

static void print_budgets(const bench *b)
{
    bench_budget budgets[BENCH_BUDGETS_MAX];
    int count = bench_budgets(b, budgets);

    if (count > 0)
        (void)printf("\n%-56s  %12s  %10s\n", "budget", "must be", "is");
    for (int i = 0; i < count; i++) {
        const bench_budget *budget = &budgets[i];
        char need[CELL_BYTES], got[CELL_BYTES] = "-";

        (void)snprintf(need, sizeof(need), "%s %g %s", budget->at_least ? ">=" : "<=", budget->need,
                       budget->unit);
        if (!isnan(budget->got))
            (void)snprintf(got, sizeof(got), "%.3g", budget->got);
        (void)printf("%-56s  %12s  %10s  %s\n", budget->what, need, got,
                     isnan(budget->got)          ? "not measured"
                     : bench_budget_kept(budget) ? "ok"
                                                 : "missed");
    }
}

void bench_print_table(const bench *b)
{
    print_conditions(b);
    if (b->kind != BENCH_LIMITS) {
        print_ways(b);
        print_budgets(b);
    }
    bench_print_limits(&b->limits);
}
