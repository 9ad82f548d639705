/* A producer: reads jobs from stdin (tests/lib/jobs.py describes the format) and enqueues them in
 * batches; prints one id a line, 0 for a job that was left out.
 *
 *   prog_produce DSN raise|skip|update_priority BATCH none|commit|rollback
 *
 * $LOG_POLICY is the client's log policy, or the jobs' own in a transaction. With commit or
 * rollback the jobs go through a connection of its own in one transaction, which then ends so. A
 * failure prints the code's name and the error, and exits with the code's status.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pgqueuer/libpq.h>
#include <pgqueuer/pgqueuer.h>

typedef struct batch {
    pgq_new_job *jobs;
    char **lines; /* own the texts of the jobs */
    size_t count, capacity;
} batch;

static void *need(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

static char *field(char **rest)
{
    char *text = strsep(rest, "\t");
    if (text == NULL) {
        fprintf(stderr, "a job's line has too few fields\n");
        exit(90);
    }
    return text;
}

static char *optional(char *text)
{
    return strcmp(text, "-") == 0 ? NULL : text;
}

static bool read_job(pgq_new_job *ret_job, char **ret_line)
{
    pgq_new_job job = PGQ_NEW_JOB_INIT;
    char *line = NULL, *rest;
    size_t size = 0;
    ssize_t len = getline(&line, &size, stdin);
    long long payload_len;

    if (len <= 0) {
        free(line);
        return false;
    }
    line[len - 1] = '\0';
    rest = line;
    job.entrypoint = field(&rest);
    job.priority = (int32_t)strtol(field(&rest), NULL, 10);
    job.delay_ms = strtoll(field(&rest), NULL, 10);
    job.dedupe_key = optional(field(&rest));
    job.headers = optional(field(&rest));
    payload_len = strtoll(field(&rest), NULL, 10);
    if (payload_len >= 0) {
        char *payload = need(malloc((size_t)payload_len + 1));
        if (fread(payload, 1, (size_t)payload_len, stdin) != (size_t)payload_len) {
            fprintf(stderr, "a payload is cut off\n");
            exit(90);
        }
        job.payload = (pgq_bytes){payload, (size_t)payload_len};
    }
    *ret_job = job;
    *ret_line = line;
    return true;
}

static void batch_clear(batch *b)
{
    for (size_t i = 0; i < b->count; i++) {
        free(b->lines[i]);
        free((void *)(uintptr_t)b->jobs[i].payload.data);
    }
    b->count = 0;
}

static bool batch_read(batch *b)
{
    batch_clear(b);
    while (b->count < b->capacity && read_job(&b->jobs[b->count], &b->lines[b->count]))
        b->count++;
    return b->count > 0;
}

static pgq_on_conflict parse_on_conflict(const char *text)
{
    if (strcmp(text, "skip") == 0)
        return PGQ_ON_CONFLICT_SKIP;
    return strcmp(text, "raise") == 0 ? PGQ_ON_CONFLICT_RAISE : PGQ_ON_CONFLICT_UPDATE_PRIORITY;
}

static pgq_log_policy log_policy(void)
{
    static const char *const names[] = {"", "full", "terminal", "failures"};
    const char *given = getenv("LOG_POLICY");

    for (int i = 0; given != NULL && i < 4; i++) {
        if (strcmp(names[i], given) == 0)
            return (pgq_log_policy)i;
    }
    return PGQ_LOG_POLICY_DEFAULT;
}

static void execute(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        fprintf(stderr, "%s: %s\n", sql, PQerrorMessage(conn));
        exit(91);
    }
    PQclear(result);
}

int main(int argc, char **argv)
{
    pgq_error err = PGQ_ERROR_INIT;
    pgq_client *client = NULL;
    PGconn *conn = NULL;
    batch b = {0};
    pgq_code code = PGQ_OK;

    if (argc != 5) {
        fprintf(stderr, "usage: prog_produce DSN ON_CONFLICT BATCH none|commit|rollback\n");
        return 90;
    }
    b.capacity = strtoul(argv[3], NULL, 10);
    b.jobs = need(calloc(b.capacity, sizeof *b.jobs));
    b.lines = need(calloc(b.capacity, sizeof *b.lines));
    int64_t *ids = need(calloc(b.capacity, sizeof *ids));
    bool own_transaction = strcmp(argv[4], "none") != 0;

    if (own_transaction) {
        conn = PQconnectdb(argv[1]);
        if (PQstatus(conn) != CONNECTION_OK) {
            fprintf(stderr, "%s\n", PQerrorMessage(conn));
            return 91;
        }
        execute(conn, "BEGIN");
    } else {
        pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;
        options.dsn = argv[1];
        options.log_policy = log_policy();
        code = pgq_client_open(&options, &client, &err);
    }
    while (code == PGQ_OK && batch_read(&b)) {
        pgq_on_conflict on_conflict = parse_on_conflict(argv[2]);
        for (size_t i = 0; own_transaction && i < b.count; i++)
            b.jobs[i].log_policy = log_policy();
        if (own_transaction)
            code = pgq_enqueue_on(conn, NULL, b.jobs, b.count, on_conflict, ids, &err);
        else
            code = pgq_enqueue_batch(client, b.jobs, b.count, on_conflict, ids, &err);
        for (size_t i = 0; code == PGQ_OK && i < b.count; i++)
            printf("%" PRId64 "\n", ids[i]);
        fflush(stdout); /* what is printed was acknowledged, also when the next batch fails */
    }
    if (code == PGQ_OK && own_transaction)
        execute(conn, strcmp(argv[4], "commit") == 0 ? "COMMIT" : "ROLLBACK");
    if (code != PGQ_OK)
        fprintf(stderr, "%s %s: %s [%s] (%s)\n", pgq_code_name(code), err.sqlstate, err.message,
                err.where, err.hint);
    batch_clear(&b);
    free(b.jobs);
    free(b.lines);
    free(ids);
    pgq_client_free(client);
    PQfinish(conn);
    return pgq_code_exit_status(code);
}
