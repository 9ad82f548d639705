/* The memory that the parent and the worker processes of a benchmark share. */
#ifndef CLI_BENCH_SHARED_H
#define CLI_BENCH_SHARED_H

#include "cli/bench.h"

#include <semaphore.h>

/* PARENT'S PID:DESCRIPTOR:PLACE IN THE FLEET, in the environment of a worker process. */
#define BENCH_VARIABLE "PGQUEUER_BENCH_WORKER"

enum {
    BENCH_WARM_UP = 10, /* jobs of `latency` that do not count */
    BENCH_SAMPLES_MAX = BENCH_LATENCY_MAX + BENCH_WARM_UP,
    BENCH_NUMBER_BYTES = 24,
    BENCH_DSN_BYTES = 4096
};

typedef enum bench_task {
    BENCH_TASK_DRAIN, /* until nothing is due */
    BENCH_TASK_COUNT, /* until stopped; tells when `target` jobs have started */
    BENCH_TASK_TIME   /* until stopped; notes when the job with number i as payload starts */
} bench_task;

typedef enum bench_state {
    BENCH_STATE_NEW,
    BENCH_STATE_LOADED, /* waits for `go` */
    BENCH_STATE_LISTENING,
    BENCH_STATE_ENDED
} bench_state;

/* What one worker tells. */
typedef struct bench_slot {
    atomic_int state;
    atomic_llong first_us; /* its first handler's start, on the monotonic clock; 0: none yet */
    int64_t first_cpu_us;  /* the process's CPU time at about that moment */
    atomic_llong begun;    /* handlers, until `all_us` and of several workers */
    int64_t end_us, end_cpu_us, peak_bytes;
    int64_t jobs;
    pgq_code code; /* of the run, with its error */
    pgq_error error;
} bench_slot;

struct bench_shared {
    /* asked, before the start */
    bool has_dsn; /* otherwise libpq's variables decide */
    char dsn[BENCH_DSN_BYTES];
    char schema[32];
    bench_task task;
    int workers;
    pgq_lane lane;
    pgq_log_policy policy;
    int batch_size, lanes, threads; /* 0: the default */
    int64_t lease_ms;
    sem_t go;
    /* told */
    sem_t news;                /* something has changed */
    atomic_llong started;      /* handlers, of all workers */
    atomic_llong base, target; /* asked: a step begins after `base` and ends at `target` */
    atomic_llong base_us, target_us;
    atomic_int workers_begun; /* those whose first handler has started */
    atomic_llong all_us;      /* when the last one's has; 0: not yet, or there is but one */
    int64_t all_jobs;         /* handlers that had started by then; written before `all_us` */
    bench_slot slots[BENCH_WORKERS_MAX];
    atomic_llong samples_us[BENCH_SAMPLES_MAX];
};

#endif
