#include "cli/ids.h"
#include "base/error.h"

#include <stdlib.h>

int cli_ids(const cli *c, int64_t **ret_ids)
{
    int64_t *ids = calloc(c->arg_count, sizeof(*ids));
    pgq_error err = PGQ_ERROR_INIT;

    if (ids == NULL) {
        (void)error_nomem(&err);
        return cli_report(&err);
    }
    for (size_t i = 0; i < c->arg_count; i++) {
        if (setting_parse_int(c->args[i], 1, INT64_MAX, &ids[i]))
            continue;
        free(ids);
        return cli_usage(c->command, "'%.64s' is not the id of a job", c->args[i]);
    }
    *ret_ids = ids;
    return -1;
}
