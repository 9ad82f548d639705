#include "cli/dev.h"

pgq_code dev_find_dsn(const char *folder, char **ret_dsn, pgq_error *err)
{
    (void)folder;
    (void)err;
    *ret_dsn = NULL;
    return PGQ_OK;
}
