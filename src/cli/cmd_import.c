/* import: a job for each line of a file or stream, each exactly once. */
#include "base/clock.h"
#include "base/error.h"
#include "base/utf8.h"
#include "cli/cli.h"
#include "cli/import_run.h"
#include "cli/when.h"

#include <stdio.h>

static bool ends_in(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);

    return len >= end_len && base_streq(text + len - end_len, end);
}

static import_format choose_format(const cli *c)
{
    if (cli_given(c, OPT_FORMAT))
        return (import_format)cli_number(c, OPT_FORMAT);
    return ends_in(c->args[0], ".csv") ? IMPORT_CSV : IMPORT_JSONL;
}

/* What stands in for what a line leaves out is checked once, and not with each line. */
static pgq_code check_defaults(const pgq_new_job *defaults, pgq_error *err)
{
    pgq_new_job job = *defaults;

    if (job.entrypoint == NULL)
        job.entrypoint = "x";
    return pgq_new_job_check(&job, err);
}

/* Checks what the table of options cannot; -1 or the exit status. */
static int read_options(const cli *c, import_options *o)
{
    pgq_error err = PGQ_ERROR_INIT;

    *o = (import_options){.path = base_streq(c->args[0], "-") ? NULL : c->args[0],
                          .name = cli_text(c, OPT_IMPORT_NAME),
                          .rejects = cli_text(c, OPT_REJECTS),
                          .format = choose_format(c),
                          .on_conflict = (pgq_on_conflict)cli_number(c, OPT_ON_CONFLICT),
                          .log_policy = (pgq_log_policy)(cli_number(c, OPT_LOG_POLICY) + 1),
                          .again = cli_flag(c, OPT_AGAIN),
                          .resume = cli_flag(c, OPT_RESUME)};
    o->defaults = (pgq_new_job)PGQ_NEW_JOB_INIT;
    o->defaults.entrypoint = cli_text(c, OPT_ENTRYPOINT);
    o->defaults.priority = (int32_t)cli_number(c, OPT_PRIORITY);
    o->defaults.delay_ms = cli_number(c, OPT_DELAY);
    o->defaults.headers = cli_text(c, OPT_HEADERS);
    if (cli_given(c, OPT_AT) && cli_given(c, OPT_DELAY))
        return cli_usage(c->command, "give either --delay or --at");
    if (cli_given(c, OPT_AT) && !when_parse(cli_text(c, OPT_AT), &o->defaults.run_at_us))
        return cli_usage(c->command,
                         "--at cannot be '%.64s'; it is a time with an offset, such as "
                         "2026-11-24T09:00:00Z or 2026-11-24T09:00+01:00",
                         cli_text(c, OPT_AT));
    if (o->again && o->resume)
        return cli_usage(c->command, "--again and --resume contradict each other");
    if (o->name != NULL &&
        (strlen(o->name) > IMPORT_NAME_BYTES_MAX || !utf8_valid(o->name, strlen(o->name))))
        return cli_usage(c->command, "--name is UTF-8 of at most %d bytes", IMPORT_NAME_BYTES_MAX);
    if (check_defaults(&o->defaults, &err) != PGQ_OK)
        return cli_report(&err);
    return -1;
}

static void say_where(const import_run *run)
{
    if (run->resumed && run->state.lines > 0)
        (void)fprintf(stderr, "pgqueuer: going on behind line %lld: %lld jobs are in already\n",
                      (long long)run->state.lines, (long long)run->state.jobs);
}

static int report_done_before(const import_run *run)
{
    char when[CLOCK_TEXT_BYTES];

    (void)fprintf(stderr,
                  "pgqueuer: error: it was imported already, at %s: %lld jobs from %lld lines\n"
                  "  hint: nothing was enqueued; --again imports it once more\n",
                  clock_format(run->state.updated_us, true, when), (long long)run->state.jobs,
                  (long long)run->state.lines);
    return pgq_code_exit_status(PGQ_E_DUPLICATE);
}

static void report_counts(const import_run *run)
{
    const pgq_import *state = &run->state;

    (void)printf("Imported %lld jobs from %lld lines", (long long)state->jobs,
                 (long long)state->lines);
    if (state->skipped > 0)
        (void)printf(", skipped %lld", (long long)state->skipped);
    if (state->rejected > 0)
        (void)printf(", rejected %lld", (long long)state->rejected);
    (void)puts(".");
}

/* How to go on after a failure, with or without the extras. */
static void say_how_to_go_on(const import_run *run)
{
    if (run->recorded)
        (void)fprintf(stderr,
                      "  hint: %lld jobs are in; the same command goes on behind line %lld\n",
                      (long long)run->state.jobs, (long long)run->state.lines);
    else if (run->state.lines > 0)
        (void)fprintf(
            stderr, "  hint: the first %lld lines are dealt with; import what follows them only\n",
            (long long)run->state.lines);
}

int cmd_import(cli *c)
{
    import_options options;
    import_run run;
    pgq_client *client = NULL;
    pgq_error err = PGQ_ERROR_INIT;
    pgq_code code;
    bool began;
    int status = read_options(c, &options);

    if (status >= 0)
        return status;
    code = cli_open(c, &client, &err);
    if (code != PGQ_OK)
        return cli_report(&err);
    code = import_begin(&run, &options, client, &err);
    began = code == PGQ_OK;
    if (began && run.done_before) {
        status = report_done_before(&run);
    } else {
        if (began) {
            say_where(&run);
            code = import_go(&run, &err);
            if (code == PGQ_OK || run.state.lines > 0)
                report_counts(&run);
        }
        status = run.state.rejected > 0 ? EXIT_FAILED : EXIT_DONE;
        if (code != PGQ_OK) {
            status = cli_report(&err);
            if (began)
                say_how_to_go_on(&run);
        }
    }
    import_run_release(&run);
    (void)pgq_client_free(client);
    return status;
}
