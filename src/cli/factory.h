/* The factory of a worker: FILE:SYMBOL. */
#ifndef CLI_FACTORY_H
#define CLI_FACTORY_H

#include "cli/cli.h"

typedef struct factory_path {
    char *file; /* with a '/', so that dlopen does not search; the caller's to free */
    const char *symbol;
} factory_path;

/* PGQ_E_FACTORY, with the spelling that was probably meant. */
pgq_code factory_split(const char *text, factory_path *path, pgq_error *err);

/* PGQ_E_NOT_FOUND (file or symbol), PGQ_E_FACTORY (not a shared object that can be loaded). */
pgq_code factory_load(const factory_path *path, pgq_factory *ret_factory, pgq_error *err);

/* Calls it with what follows `--`; its failure has a message in any case. */
pgq_code factory_call(const cli *c, pgq_factory factory, pgq_worker *worker, pgq_error *err);

#endif
