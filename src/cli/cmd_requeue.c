/* requeue: puts held jobs back into the queue. */
#include "cli/cli.h"
#include "cli/ids.h"

#include <stdio.h>
#include <stdlib.h>

int cmd_requeue(cli *c)
{
    int64_t *ids = NULL;
    pgq_client *client = NULL;
    pgq_error err = PGQ_ERROR_INIT;
    pgq_code code;
    int status = cli_ids(c, &ids);

    if (status >= 0)
        return status;
    code = cli_open(c, &client, &err);
    if (code == PGQ_OK)
        code = pgq_requeue(client, ids, c->arg_count, NULL, &err);
    if (code != PGQ_OK) {
        status = cli_report(&err);
    } else {
        /* the number of ids, held or not, as the Python release says it */
        (void)printf("Re-queued %zu job(s).\n", c->arg_count);
        status = EXIT_DONE;
    }
    (void)pgq_client_free(client);
    free(ids);
    return status;
}
