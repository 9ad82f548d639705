/* What several C tests enqueue. */
#ifndef TESTS_SAMPLES_H
#define TESTS_SAMPLES_H

#include <stdlib.h>
#include <string.h>

#include <pgqueuer/client.h>

#include "unit.h"

static inline pgq_new_job some_job(void)
{
    pgq_new_job job = PGQ_NEW_JOB_INIT;

    job.entrypoint = "fetch";
    return job;
}

/* A text of `len` times 'x', to be freed. */
static inline char *repeat(size_t len)
{
    char *text = malloc(len + 1);

    assert_non_null(text);
    memset(text, 'x', len);
    text[len] = '\0';
    return text;
}

#endif
