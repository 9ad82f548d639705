/* What a SQLSTATE means to us. One table, so that every room agrees. */
#ifndef PG_SQLSTATE_H
#define PG_SQLSTATE_H

#include "base/base.h"

typedef enum sqlstate_class {
    SQLSTATE_OTHER,      /* the statement is refused: the same call will be refused again */
    SQLSTATE_TRANSIENT,  /* the same call may succeed a moment later */
    SQLSTATE_CONNECTION, /* the session is gone or going */
    SQLSTATE_DATA,       /* a value in the statement was refused */
    SQLSTATE_SCHEMA,     /* an object is missing or of another shape */
    SQLSTATE_PERMISSION,
    SQLSTATE_UNIQUE,
    SQLSTATE_CONTENDED /* of a claim only: another one was faster; never from this table */
} sqlstate_class;

sqlstate_class sqlstate_classify(const char *sqlstate);

/* The code under which a caller sees it. */
pgq_code sqlstate_code(const char *sqlstate);

#endif
