/* The private PostgreSQL of a folder: a real server in `.pgqueuer/`, reached by a Unix socket. */
#ifndef CLI_DEV_H
#define CLI_DEV_H

#include "base/base.h"

#define DEV_FOLDER ".pgqueuer"

/* The DSN of the running server of `folder`, to be freed; NULL when none runs there. */
pgq_code dev_find_dsn(const char *folder, char **ret_dsn, pgq_error *err);

#endif
