/* A database with the schema, and a client of it. */
#ifndef TESTS_QUEUE_FIXTURE_H
#define TESTS_QUEUE_FIXTURE_H

#include <stdlib.h>

#include "server.h"
#include "unit.h"

typedef struct fixture {
    database db;
    pgq_client *client;
} fixture;

static inline int open_fixture(void **state)
{
    fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    database_open(&f->db);
    f->client = database_client(&f->db);
    *state = f;
    return 0;
}

static inline int close_fixture(void **state)
{
    fixture *f = *state;

    (void)pgq_client_free(f->client);
    database_close(&f->db);
    free(f);
    return 0;
}

#endif
