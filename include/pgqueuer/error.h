/* Error codes and the detail of a failure.
 *
 * Every function that can fail returns a pgq_code and takes, as its last parameter, an optional
 * pgq_error owned by the caller. The code is for programs; the texts are for people and carry no
 * payload, password or whole DSN. */
#ifndef PGQUEUER_ERROR_H
#define PGQUEUER_ERROR_H

#include <stdbool.h>

#if defined(__GNUC__)
#define PGQ_API __attribute__((visibility("default")))
#define PGQ_CHECKED __attribute__((warn_unused_result))
#else
#define PGQ_API
#define PGQ_CHECKED
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The one list of codes: X(name, number, exit status of the program, text).
 * Numbers are never reused or renumbered; new codes go to the end. The recipe for adding one is in
 * CONTRIBUTING.md. */
#define PGQ_CODE_MAP(X)                                                                \
    X(OK, 0, 0, "success")                                                             \
    X(E_NOMEM, 1, 1, "out of memory")                                                  \
    X(E_INVALID, 2, 2, "invalid argument")                                             \
    X(E_LIMIT, 3, 2, "a value is over its limit")                                      \
    X(E_CONNECT, 4, 3, "cannot connect to the database")                               \
    X(E_AUTH, 5, 3, "the server refused the login")                                    \
    X(E_CONNECTION_LOST, 6, 3, "the connection to the database was lost")              \
    X(E_OUTCOME_UNKNOWN, 7, 3, "the connection was lost before the outcome was known") \
    X(E_TIMEOUT, 8, 8, "timed out")                                                    \
    X(E_SCHEMA_MISSING, 9, 4, "the PGQueuer schema is not installed")                  \
    X(E_SCHEMA_MISMATCH, 10, 4, "the PGQueuer schema is of another version")           \
    X(E_SCHEMA_EXISTS, 11, 1, "the PGQueuer schema is already installed")              \
    X(E_DUPLICATE, 12, 7, "a job with this dedupe key is already queued or running")   \
    X(E_NOT_FOUND, 13, 6, "not found")                                                 \
    X(E_PERMISSION, 14, 1, "permission denied by the database")                        \
    X(E_DATABASE, 15, 1, "the database reported an error")                             \
    X(E_UNSUPPORTED, 16, 1, "not supported")                                           \
    X(E_STATE, 17, 1, "not allowed in this state")                                     \
    X(E_FACTORY, 18, 1, "the factory cannot be used")                                  \
    X(E_FAILING_LISTENER, 19, 5, "the listener does not receive its health check")     \
    X(E_IO, 20, 1, "input or output failed")                                           \
    X(E_INTERNAL, 21, 1, "internal error, please report it")                           \
    X(E_BACKPRESSURE, 22, 8, "the producer's queue is full")

typedef enum pgq_code {
#define PGQ_X(name, number, status, text) PGQ_##name = number,
    PGQ_CODE_MAP(PGQ_X)
#undef PGQ_X
} pgq_code;

enum { PGQ_MESSAGE_BYTES = 512, PGQ_HINT_BYTES = 256, PGQ_WHERE_BYTES = 128 };

/* The detail of a failure. A caller declares it with PGQ_ERROR_INIT and passes its address; a
 * function that succeeds leaves it untouched. All texts are NUL-terminated UTF-8, cut at their
 * size. */
typedef struct pgq_error {
    pgq_code code;
    char sqlstate[6];                /* five characters from the server, or "" */
    bool retryable;                  /* the same call may succeed later, unchanged */
    char message[PGQ_MESSAGE_BYTES]; /* what is wrong */
    char hint[PGQ_HINT_BYTES];       /* what to do, or "" */
    char where[PGQ_WHERE_BYTES];     /* the statement, file or option concerned, or "" */
} pgq_error;

#define PGQ_ERROR_INIT                \
    {                                 \
        PGQ_OK, "", false, "", "", "" \
    }

/* The text of a code: static, never NULL. Any thread. */
PGQ_API const char *pgq_strerror(pgq_code code);

/* The name of a code, such as "PGQ_E_TIMEOUT": static, never NULL. Any thread. */
PGQ_API const char *pgq_code_name(pgq_code code);

/* The exit status with which the pgqueuer program reports a code, 0 to 8. Any thread. */
PGQ_API int pgq_code_exit_status(pgq_code code);

#ifdef __cplusplus
}
#endif
#endif
