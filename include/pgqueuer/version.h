#ifndef PGQUEUER_VERSION_H
#define PGQUEUER_VERSION_H

#include <pgqueuer/error.h>

#define PGQ_VERSION_MAJOR 0
#define PGQ_VERSION_MINOR 1
#define PGQ_VERSION_PATCH 0
#define PGQ_VERSION_TEXT "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the library that is loaded, such as "0.1.0". Static. */
PGQ_API const char *pgq_version(void);

#ifdef __cplusplus
}
#endif
#endif
