/* The inside of the driver: drive.c (the loop, connections, actions), drive_job.c (how a job is
 * run, and what its end means), drive_life.c (made and freed). */
#ifndef WORKER_DRIVE_INTERNAL_H
#define WORKER_DRIVE_INTERNAL_H

#include "queue/event.h"
#include "worker/drive.h"
#include "worker/pool.h"

#include <uv.h>

/* libuv's watch of one descriptor. It is made anew for every descriptor, and freed when libuv has
 * let go of it. */
typedef struct watch {
    uv_poll_t poll;
    int fd, events;
} watch;

typedef struct drive_lane {
    drive *drive;
    int index;
    pg_conn *conn;
    watch *watch;
    const engine_flight *flight; /* what was said */
    int64_t flown_us;            /* when */
    size_t heard;                /* sentences of it that were answered */
    pg_reply reply;              /* to the next one; it counts when its sync has come */
    bool ready_told;             /* the engine knows that the lane is ready */
} drive_lane;

struct drive {
    drive_config config;
    uv_loop_t loop;
    uv_async_t wake;   /* outcomes wait */
    uv_poll_t control; /* the worker's bell */
    bool stopped, hurried;
    uv_timer_t timer;
    uv_timer_t pulse; /* shows the parent that the loop turns */
    bool loop_open;
    engine *engine;
    pool *pool;
    speaker speaker;
    event event; /* scratch */
    speaker_entrypoint *speaker_entrypoints;
    drive_lane lanes[ENGINE_LANES_MAX];
    int lane_count;
    /* When the last beat that was answered was sent: what was claimed by then is ours, as far as
     * the server's clock goes, for a heartbeat timeout from there. Read by handler threads. */
    _Atomic int64_t beaten_us;
    pgq_job **starts; /* jobs to hand over, gathered from the actions of one event */
    size_t start_count;
    pool_outcome *outcomes; /* scratch */
    size_t capacity;
    bool quick;         /* by what the last handlers took */
    int64_t run_us;     /* what they took, each */
    bool hushed;        /* the pool is quiet */
    int64_t look_at_us; /* when its messages are taken all the same; CLOCK_NEVER: no need */
    size_t abandoned;   /* jobs that the engine has given up and that have not ended */
    bool finished;
    pgq_error error;
};

/* drive.c */
void drive_unwatch(drive_lane *lane);
/* Carries out all actions, also those that carrying out brings about. */
void drive_carry_out(drive *d);
/* Messages of the pool wait; in any thread. */
void drive_wake(void *user);
void drive_on_wake(uv_async_t *async);
void drive_on_control(uv_poll_t *handle, int status, int events);

/* drive_job.c */
/* Makes a job ready and gathers it for the next push to the pool. */
void drive_start_job(drive *d, const engine_action *action);
/* Runs a job; in a thread of the pool. */
pgq_outcome drive_run_job(void *user, pgq_job *job);
/* Tells the engine what the pool says; false: nothing. The actions are the caller's to carry
 * out. */
bool drive_take_outcomes(drive *d);

#endif
