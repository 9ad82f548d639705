/* Progress of a long work: a bar on a terminal, a line now and then elsewhere, on stderr. Nothing
 * is shown for work that is over within a second. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "base/base.h"

typedef struct progress {
    const char *what;       /* borrowed */
    int64_t total;          /* 0: not known */
    int64_t part, of_parts; /* where the total is not known: how far in other units, 0: nor that */
    int64_t begun_us, shown_us; /* monotonic */
    bool terminal, shown;
} progress;

void progress_begin(progress *p, const char *what, int64_t total);
void progress_show(progress *p, int64_t done);

/* Of a work whose total is not known in its own units, but in others, such as a file's bytes. */
void progress_show_part(progress *p, int64_t done, int64_t part, int64_t of_parts);
void progress_end(progress *p);

#endif
