/* What is swept: each scenario does one thing that a program does with the library, and knows what
 * must hold afterwards, whatever failed in it. */
#ifndef TESTS_SWEEP_SCENARIOS_H
#define TESTS_SWEEP_SCENARIOS_H

#include "server.h"

typedef struct scenario {
    const char *name;
    /* Without faults: makes the database ready for one run. */
    void (*prepare)(database *d);
    /* With faults: the code of what was done. Frees everything. */
    pgq_code (*run)(database *d, pgq_error *err);
    /* Without faults: NULL, or what does not hold (static). */
    const char *(*check)(database *d, pgq_code code);
} scenario;

extern const scenario scenarios[];
extern const size_t scenario_count;

/* How often handlers ran since the start of the program. */
long scenario_handler_runs(void);

#endif
