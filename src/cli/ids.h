/* The ids of jobs that a command is given. */
#ifndef CLI_IDS_H
#define CLI_IDS_H

#include "cli/cli.h"

/* All arguments as ids, to be freed; -1, or the exit status after the error was printed. */
int cli_ids(const cli *c, int64_t **ret_ids);

#endif
