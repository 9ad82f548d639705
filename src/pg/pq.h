/* The one private header that includes libpq's, for the files of this room. */
#ifndef PG_PQ_H
#define PG_PQ_H

#include <libpq-fe.h>

#endif
