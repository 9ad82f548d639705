/* queue: enqueues one job, or the same one many times. */
#include "base/error.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "cli/when.h"

#include <stdio.h>
#include <stdlib.h>

enum { JOBS_PER_CALL = 10000 };

/* The jobs of one call are all the same. */
typedef struct production {
    pgq_new_job job;
    pgq_on_conflict on_conflict;
    int64_t count, done;
    int64_t first_id, last_id;
    pgq_new_job *jobs; /* per_call copies */
    int64_t *ids;
    int64_t per_call;
} production;

/* Turns the argument PAYLOAD into bytes that live as long as `content` and `c`. */
static pgq_code read_payload(const cli *c, buffer *content, pgq_bytes *payload, pgq_error *err)
{
    const char *text = c->arg_count > 1 ? c->args[1] : NULL;
    pgq_code code;

    if (text == NULL)
        return PGQ_OK;
    if (!base_streq(text, "-") && text[0] != '@') {
        *payload = (pgq_bytes){text, strlen(text)};
        return PGQ_OK;
    }
    code = cli_read_file(text[0] == '@' ? text + 1 : NULL, PGQ_PAYLOAD_BYTES_MAX, content, err);
    *payload = (pgq_bytes){content->data, content->len};
    return code;
}

/* Checks what the table of options cannot; -1 or the exit status. */
static int read_job(const cli *c, production *p)
{
    p->job = (pgq_new_job)PGQ_NEW_JOB_INIT;
    p->job.entrypoint = c->args[0];
    p->job.headers = cli_text(c, OPT_HEADERS);
    p->job.priority = (int32_t)cli_number(c, OPT_PRIORITY);
    p->job.delay_ms = cli_number(c, OPT_DELAY);
    p->job.dedupe_key = cli_text(c, OPT_DEDUPE_KEY);
    p->on_conflict = (pgq_on_conflict)cli_number(c, OPT_ON_CONFLICT);
    p->count = cli_number(c, OPT_COUNT);
    if (c->args[0][0] == '\0')
        return cli_usage(c->command, "the entrypoint must not be empty");
    if (p->count > 1 && p->job.dedupe_key != NULL)
        return cli_usage(c->command, "--count and --dedupe-key contradict each other: a key is for "
                                     "one job");
    if (cli_given(c, OPT_AT) && cli_given(c, OPT_DELAY))
        return cli_usage(c->command, "give either --delay or --at");
    if (cli_given(c, OPT_AT) && !when_parse(cli_text(c, OPT_AT), &p->job.run_at_us))
        return cli_usage(c->command,
                         "--at cannot be '%.64s'; it is a time with an offset, such as "
                         "2026-11-24T09:00:00Z or 2026-11-24T09:00+01:00",
                         cli_text(c, OPT_AT));
    return -1;
}

static pgq_code produce_batches(pgq_client *client, production *p, pgq_error *err)
{
    progress bar;
    pgq_code code = PGQ_OK;

    progress_begin(&bar, "enqueueing", p->count);
    while (code == PGQ_OK && p->done < p->count) {
        int64_t now = base_min_i64(p->per_call, p->count - p->done);

        code = pgq_enqueue_batch(client, p->jobs, (size_t)now, p->on_conflict, p->ids, err);
        if (code != PGQ_OK)
            break;
        if (p->done == 0)
            p->first_id = p->ids[0];
        p->last_id = p->ids[now - 1];
        p->done += now;
        progress_show(&bar, p->done);
    }
    progress_end(&bar);
    return code;
}

static pgq_code produce(pgq_client *client, production *p, pgq_error *err)
{
    pgq_code code;

    if (p->count == 1) {
        code = pgq_enqueue(client, &p->job, p->on_conflict, &p->first_id, err);
        p->done = code == PGQ_OK ? 1 : 0;
        return code;
    }
    p->per_call = (int64_t)(PGQ_BATCH_BYTES_MAX / (p->job.payload.len + 4096));
    p->per_call = base_min_i64(base_max_i64(p->per_call, 1), JOBS_PER_CALL);
    p->per_call = base_min_i64(p->per_call, p->count);
    p->jobs = calloc((size_t)p->per_call, sizeof(*p->jobs));
    p->ids = calloc((size_t)p->per_call, sizeof(*p->ids));
    if (p->jobs == NULL || p->ids == NULL)
        return error_nomem(err);
    for (int64_t i = 0; i < p->per_call; i++)
        p->jobs[i] = p->job;
    return produce_batches(client, p, err);
}

static int report(const cli *c, const production *p, pgq_code code, const pgq_error *err)
{
    if (p->done > 0 && p->count > 1)
        (void)printf("Enqueued %lld jobs (%lld to %lld).\n", (long long)p->done,
                     (long long)p->first_id, (long long)p->last_id);
    if (code == PGQ_E_DUPLICATE) {
        (void)fprintf(stderr, "Error: duplicate dedupe_key '%s'.\n", cli_text(c, OPT_DEDUPE_KEY));
        return pgq_code_exit_status(code);
    }
    if (code != PGQ_OK)
        return cli_report(err);
    if (p->count > 1)
        return EXIT_DONE;
    if (p->first_id != 0)
        (void)printf("Enqueued job %lld.\n", (long long)p->first_id);
    else
        (void)printf("Skipped: duplicate dedupe_key '%s'.\n", cli_text(c, OPT_DEDUPE_KEY));
    return EXIT_DONE;
}

int cmd_queue(cli *c)
{
    production p = {0};
    buffer content = BUFFER_INIT;
    pgq_client *client = NULL;
    pgq_error err = PGQ_ERROR_INIT;
    pgq_code code;
    int status = read_job(c, &p);

    if (status >= 0)
        return status;
    code = read_payload(c, &content, &p.job.payload, &err);
    if (code == PGQ_OK)
        code = cli_open(c, &client, &err);
    if (code == PGQ_OK)
        code = produce(client, &p, &err);
    status = report(c, &p, code, &err);
    (void)pgq_client_free(client);
    buffer_release(&content);
    free(p.jobs);
    free(p.ids);
    return status;
}
