#include <pgqueuer/version.h>

const char *pgq_version(void)
{
    return PGQ_VERSION_TEXT;
}
