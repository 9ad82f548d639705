/* The inside of the supervisor: supervise.c (children and their end), supervise_suspects.c (the
 * jobs of crashed ones), supervise_spawn.c (starting a child). One thread; nothing here loads a
 * factory. */
#ifndef CLI_SUPERVISE_H
#define CLI_SUPERVISE_H

#include "cli/run.h"
#include "cli/run_log.h"

enum { PROCESSES_MAX = 64, TAKES_MAX = 64 };

/* A worker process and its ledger. */
typedef struct child {
    pid_t pid; /* 0: none runs */
    void *memory;
    int ledger_fd;
    pgq_ledger *ledger;
    int64_t started_us, restart_at_us, delay_us; /* CLOCK_NEVER: no restart is due */
    bool was_ready;                              /* it has run its worker once */
    bool over;                                   /* it has ended for good */
} child;

/* What a crashed process ran, until its jobs are taken over. */
typedef struct take {
    char worker_id[37];
    int64_t *ids; /* owned */
    size_t count;
    int64_t until_us; /* then its jobs are anybody's */
} take;

typedef struct suspect {
    int64_t id;
    int deaths;      /* alone */
    int wait_status; /* of the last one */
} suspect;

typedef struct suspects {
    pgq_connect_options connect;
    pgq_client *client; /* made when it is needed */
    char own_id[37];
    take takes[TAKES_MAX];
    size_t take_count;
    suspect *list; /* the first is the next to run alone, or runs */
    size_t count, capacity;
    child solo;            /* runs the first of the list alone */
    bool hold_first;       /* the first has died often enough */
    bool sweep;            /* the last has ended: what may be left picked is given back */
    int64_t again_us;      /* when the database is tried again */
    int64_t solo_again_us; /* when a solo child is started again that could not even begin */
    int solo_failures;     /* in a row */
    int64_t beat_at_us;
    int64_t heartbeat_us;
} suspects;

typedef struct supervisor {
    cli *c;
    run_log log;
    char **argv; /* of this process, for its children */
    child children[PROCESSES_MAX];
    size_t child_count;
    suspects suspects;
    int signal_fd;
    int signals_to_end;
    bool stopping;
    int status; /* with which the parent will end */
    uint64_t restarts;
    int64_t watchdog_us, watchdog_at_us; /* 0: systemd does not watch */
    bool ready_told;
} supervisor;

/* supervise.c */
/* Whether a process ended because of what it ran: by a signal, or since a handler ended it. */
bool child_crashed(const supervisor *s, const child *ch, int wait_status);

/* supervise_spawn.c */
bool child_open(child *ch, pgq_error *err);
void child_close(child *ch);
/* Starts the process; worker_id and job as in run_child, NULL and 0 for a regular one. */
bool child_start(supervisor *s, child *ch, const char *worker_id, int64_t job);

/* supervise_suspects.c */
pgq_code suspects_open(supervisor *s, pgq_error *err);
void suspects_close(supervisor *s);
/* A regular child has crashed. */
void suspects_add(supervisor *s, const child *dead, int64_t now_us);
/* Whether the jobs of crashed processes are still to be taken over. */
bool suspects_to_take(const supervisor *s);
/* Whether nothing is left to do for them. */
bool suspects_idle(const supervisor *s);
/* Does what is due: takes over, beats, runs the next one alone, holds killers. */
void suspects_work(supervisor *s, int64_t now_us);
/* The solo child has ended. */
void suspects_ended(supervisor *s, int wait_status, int64_t now_us);
/* Gives everything back; the supervisor ends. */
void suspects_release(supervisor *s);
int64_t suspects_deadline(const supervisor *s);

#endif
