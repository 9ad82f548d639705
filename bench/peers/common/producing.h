/* The producer's verbs for the producers in C; harness/programs.py describes them. */
#ifndef BENCH_PEERS_PRODUCING_H
#define BENCH_PEERS_PRODUCING_H

#include <stdint.h>

enum { PRODUCING_BATCH = 5000, PRODUCING_LANES_MAX = 64 };

/* How a way of enqueueing is used. Each lane belongs to one thread at a time; what fails ends the
 * process with a message. */
typedef struct producing_way {
    const char *name;
    void *(*open)(void);
    void (*add_one)(void *lane, const char *payload); /* NULL: a job without a payload */
    void (*add_many)(void *lane, int count);          /* in one transaction, at most a batch */
} producing_way;

/* Obeys standard input until it ends. */
void producing_serve(const producing_way *way);

/* Prints `start NUMBER NANOSECONDS`, for a handler. */
void producing_note_start(const char *number, int length);

/* Ends the process. */
_Noreturn void producing_die(const char *what, const char *why);

#endif
