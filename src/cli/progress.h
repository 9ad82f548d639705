/* Progress of a long work: a bar on a terminal, a line now and then elsewhere, on stderr. Nothing
 * is shown for work that is over within a second. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "base/base.h"

typedef struct progress {
    const char *what; /* borrowed */
    int64_t total;
    int64_t begun_us, shown_us; /* monotonic */
    bool terminal, shown;
} progress;

void progress_begin(progress *p, const char *what, int64_t total);
void progress_show(progress *p, int64_t done);
void progress_end(progress *p);

#endif
