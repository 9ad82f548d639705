/* cancel: cancels jobs, also running ones. */
#include "base/error.h"
#include "cli/cli.h"
#include "cli/ids.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* -1 to go on, or the exit status. */
static int ask(const cli *c)
{
    char question[64];

    if (c->arg_count == 1 || cli_flag(c, OPT_YES))
        return -1;
    if (!isatty(STDIN_FILENO))
        return cli_usage(c->command, "without a terminal, more than one job needs --yes");
    (void)snprintf(question, sizeof(question), "Cancel %zu jobs?", c->arg_count);
    if (cli_confirm(question))
        return -1;
    (void)fputs("Nothing was cancelled.\n", stderr);
    return EXIT_FAILED;
}

/* Says what was done, also by a call that failed, and returns the exit status. */
static int report(const pgq_cancel_counts *counts, pgq_code code, pgq_error *err)
{
    size_t found = counts->cancelled + counts->told;

    if (found > 0) {
        (void)printf("Cancelled %zu job(s)", counts->cancelled);
        if (counts->told > 0)
            (void)printf(", told the worker of %zu", counts->told);
        (void)puts(".");
    }
    if (code != PGQ_OK)
        return cli_report(err);
    if (counts->unknown == 0)
        return EXIT_DONE;
    (void)error_set(err, PGQ_E_NOT_FOUND, "%s there: %zu unknown or ended",
                    found == 0 ? "none of the jobs is" : "some of the jobs are not",
                    counts->unknown);
    (void)cli_report(err);
    return found == 0 ? pgq_code_exit_status(PGQ_E_NOT_FOUND) : EXIT_FAILED;
}

int cmd_cancel(cli *c)
{
    pgq_cancel_options options = PGQ_CANCEL_OPTIONS_INIT;
    pgq_cancel_counts counts = {0};
    int64_t *ids = NULL;
    pgq_client *client = NULL;
    pgq_error err = PGQ_ERROR_INIT;
    pgq_code code;
    int status = cli_ids(c, &ids);

    if (status < 0)
        status = ask(c);
    if (status >= 0) {
        free(ids);
        return status;
    }
    options.heartbeat_timeout_ms = cli_number(c, OPT_HEARTBEAT_TIMEOUT);
    code = cli_open(c, &client, &err);
    if (code == PGQ_OK)
        code = pgq_cancel(client, ids, c->arg_count, &options, &counts, &err);
    status = report(&counts, code, &err);
    (void)pgq_client_free(client);
    free(ids);
    return status;
}
