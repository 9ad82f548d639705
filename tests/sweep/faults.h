/* Faults at the N-th call: the linker puts these wrappers between our objects and what they call
 * (allocation, libpq, libuv, threads, the kernel), and they count, and fail where they are told to.
 * Calls inside libpq and libuv are not ours and do not count; jansson allocates through us. */
#ifndef TESTS_SWEEP_FAULTS_H
#define TESTS_SWEEP_FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum fault_mode {
    FAULT_COUNT,  /* only count */
    FAULT_ONCE,   /* the N-th call fails */
    FAULT_OUTAGE, /* the N-th and all after it, for `outage_us` from the first one on */
    FAULT_ALWAYS  /* the N-th and all after it */
} fault_mode;

/* Begins to count from 1. */
void fault_arm(fault_mode mode, long n, int64_t outage_us);

/* From here on nothing fails or counts. */
void fault_disarm(void);

/* How many calls there were since the last arming. */
long fault_calls(void);

/* How many calls failed since the last arming. */
long fault_hits(void);

/* The call site of call N of the last arming, as a small number; -1 beyond what is remembered. */
int fault_site_of(long n);

/* The function that call N was to. */
const char *fault_name_of(long n);

/* Allocations of ours that are not freed. */
long fault_allocations(void);

typedef struct fault_totals {
    const char *function;
    long calls, faults;
    size_t sites, faulted_sites; /* places in our code that call it; those that saw a fault */
} fault_totals;

/* Fills one row a wrapped function; returns how many there are. */
size_t fault_report(fault_totals *rows, size_t max);

#endif
