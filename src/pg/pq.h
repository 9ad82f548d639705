/* The one private header that includes libpq's, for the files of this room. */
#ifndef PG_PQ_H
#define PG_PQ_H

#include <libpq-fe.h>

#include "pg/result.h"

/* Takes over the result of a statement that has succeeded. */
static inline pg_result result_of(PGresult *own)
{
    return (pg_result){
        .handle = (struct pg_result_handle *)(void *)own,
        .rows = PQntuples(own),
        .columns = PQnfields(own),
    };
}

#endif
