/* The jobs that crashed processes ran. They are taken over under an id of the supervisor's own, and
 * run alone, one after the other: what dies alone is a killer and is held in the end; what does not
 * is settled as any other job. Calls of the database block, for a few seconds at most. */
#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "cli/supervise.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    CALL_TIMEOUT_MS = 5000,
    BEAT_US = 250 * 1000, /* an entrypoint may have a short retry timer, which is not known here */
    AGAIN_US = 1000 * 1000, /* after the database did not answer */
    SOLO_DOUBLINGS = 6      /* of AGAIN_US, while solo children cannot begin */
};

static void say(supervisor *s, pgq_log_level level, const char *event, int64_t id,
                const char *error)
{
    pgq_log_field fields[2];
    size_t count = 0;

    if (id != 0)
        fields[count++] = (pgq_log_field){"job", NULL, id};
    if (error != NULL)
        fields[count++] = (pgq_log_field){"error", error, 0};
    run_log_event(&s->log, level, event, fields, count);
}

pgq_code suspects_open(supervisor *s, pgq_error *err)
{
    uuid id;

    s->suspects.heartbeat_us = cli_number(s->c, OPT_HEARTBEAT_TIMEOUT) * 1000;
    s->suspects.beat_at_us = CLOCK_NEVER;
    s->suspects.solo.ledger_fd = -1;
    if (cli_connect_options(s->c, &s->suspects.connect, err) != PGQ_OK)
        return err->code;
    s->suspects.connect.call_timeout_ms = CALL_TIMEOUT_MS;
    if (s->suspects.connect.connect_timeout_ms > CALL_TIMEOUT_MS)
        s->suspects.connect.connect_timeout_ms = CALL_TIMEOUT_MS;
    if (uuid_new(&id) != PGQ_OK)
        return error_set(err, PGQ_E_IO, "the kernel has no random numbers");
    (void)uuid_format(&id, s->suspects.own_id);
    return child_open(&s->suspects.solo, err) ? PGQ_OK : PGQ_E_IO;
}

void suspects_close(supervisor *s)
{
    suspects *u = &s->suspects;

    for (size_t i = 0; i < u->take_count; i++)
        free(u->takes[i].ids);
    free(u->list);
    child_close(&u->solo);
    (void)pgq_client_free(u->client);
}

/* The client; NULL: the database is away, and is tried again later. */
static pgq_client *client_of(supervisor *s)
{
    suspects *u = &s->suspects;
    pgq_error err = PGQ_ERROR_INIT;

    if (u->client != NULL || pgq_client_open(&u->connect, &u->client, &err) == PGQ_OK)
        return u->client;
    u->again_us = clock_monotonic_us() + AGAIN_US; /* the call may have taken long */
    say(s, PGQ_LOG_WARNING, "suspects.database_away", 0, err.message);
    return NULL;
}

/* False: the call failed, and what it is for is tried again later. */
static bool worked(supervisor *s, pgq_code code, const pgq_error *err)
{
    if (code == PGQ_OK)
        return true;
    s->suspects.again_us = clock_monotonic_us() + AGAIN_US;
    say(s, PGQ_LOG_WARNING, "suspects.database_away", 0, err->message);
    return false;
}

/* ---- taking over ---- */

void suspects_add(supervisor *s, const child *dead, int64_t now_us)
{
    suspects *u = &s->suspects;
    take *t = &u->takes[u->take_count];
    pgq_ledger_view view;

    pgq_ledger_look(dead->ledger, &view);
    if (view.worker_id[0] == '\0' || u->take_count == TAKES_MAX)
        return; /* it had not begun; or the heartbeat timeout has to do */
    *t = (take){.until_us = now_us + u->heartbeat_us,
                .count = pgq_ledger_running(dead->ledger, NULL, 0)};
    (void)snprintf(t->worker_id, sizeof(t->worker_id), "%s", view.worker_id);
    t->ids = calloc(t->count + 1, sizeof(*t->ids));
    if (t->ids == NULL)
        return;
    (void)pgq_ledger_running(dead->ledger, t->ids, t->count); /* nobody writes it any more */
    u->take_count++;
}

bool suspects_to_take(const supervisor *s)
{
    return s->suspects.take_count > 0;
}

static bool append(suspects *u, int64_t id)
{
    for (size_t i = 0; i < u->count; i++) {
        if (u->list[i].id == id)
            return false;
    }
    if (u->count == u->capacity) {
        size_t capacity = u->capacity > 0 ? 2 * u->capacity : 16;
        suspect *grown = realloc(u->list, capacity * sizeof(*grown));

        if (grown == NULL)
            return false;
        u->list = grown;
        u->capacity = capacity;
    }
    u->list[u->count++] = (suspect){.id = id};
    return true;
}

static void drop_first_take(suspects *u)
{
    free(u->takes[0].ids);
    u->take_count--;
    memmove(&u->takes[0], &u->takes[1], u->take_count * sizeof(u->takes[0]));
}

/* False: not yet. */
static bool take_over(supervisor *s, int64_t now_us)
{
    suspects *u = &s->suspects;
    take *t = &u->takes[0];
    pgq_error err = PGQ_ERROR_INIT;
    bool *taken;
    pgq_code code;

    if (now_us >= t->until_us) { /* their heartbeats are stale: any worker may have them by now */
        drop_first_take(u);
        return true;
    }
    if (client_of(s) == NULL)
        return false;
    taken = calloc(t->count + 1, sizeof(*taken));
    if (taken == NULL) {
        u->again_us = now_us + AGAIN_US;
        return false;
    }
    code = pgq_suspects_take(u->client, t->worker_id, u->own_id, t->ids, t->count, taken, &err);
    for (size_t i = 0; code == PGQ_OK && i < t->count; i++) {
        if (taken[i] && append(u, t->ids[i]))
            say(s, PGQ_LOG_WARNING, "job.suspect", t->ids[i], NULL);
    }
    free(taken);
    if (code == PGQ_E_INVALID) { /* the crash has spoiled the ledger: the heartbeats have to do */
        say(s, PGQ_LOG_ERROR, "suspects.unknown", 0, err.message);
        drop_first_take(u);
        return true;
    }
    if (!worked(s, code, &err))
        return false;
    if (u->beat_at_us == CLOCK_NEVER)
        u->beat_at_us = now_us + base_min_i64(u->heartbeat_us / 4, BEAT_US);
    drop_first_take(u);
    return true;
}

/* ---- running alone ---- */

bool suspects_idle(const supervisor *s)
{
    return s->suspects.take_count == 0 && s->suspects.count == 0 && !s->suspects.sweep;
}

static void drop_first(suspects *u)
{
    u->count--;
    memmove(&u->list[0], &u->list[1], u->count * sizeof(u->list[0]));
    u->solo_failures = 0;
    u->sweep = u->count == 0;
    if (u->count == 0)
        u->beat_at_us = CLOCK_NEVER;
}

/* What killed the process, for people. */
static void describe(int wait_status, char *text, size_t size)
{
    const char *name = WIFSIGNALED(wait_status) ? sigabbrev_np(WTERMSIG(wait_status)) : NULL;

    if (WIFSIGNALED(wait_status))
        (void)snprintf(text, size,
                       "signal %d (SIG%s) killed the worker process that ran only this job",
                       WTERMSIG(wait_status), name != NULL ? name : "?");
    else
        (void)snprintf(text, size,
                       "the worker process that ran only this job exited with status %d",
                       WEXITSTATUS(wait_status));
}

static void hold_first(supervisor *s)
{
    suspects *u = &s->suspects;
    const suspect *first = &u->list[0];
    pgq_error err = PGQ_ERROR_INIT;
    char text[128];
    bool held;

    describe(first->wait_status, text, sizeof(text));
    if (client_of(s) == NULL ||
        !worked(s,
                pgq_suspect_hold(u->client, u->own_id, first->id, "WorkerCrashed", text,
                                 first->deaths, &held, &err),
                &err))
        return;
    say(s, PGQ_LOG_ERROR, held ? "job.killer_held" : "job.killer_gone", first->id, text);
    u->hold_first = false;
    drop_first(u);
}

void suspects_ended(supervisor *s, int wait_status, int64_t now_us)
{
    suspects *u = &s->suspects;
    pgq_ledger_view view;
    suspect *first;

    u->solo.pid = 0;
    if (u->count == 0)
        return;
    first = &u->list[0];
    pgq_ledger_look(u->solo.ledger, &view);
    /* also when the handler had returned: what it has done to the process may show late */
    if (child_crashed(s, &u->solo, wait_status) && view.worker_id[0] != '\0') {
        first->deaths++;
        first->wait_status = wait_status;
        u->solo_failures = 0;
        say(s, PGQ_LOG_ERROR, "job.died_alone", first->id, NULL);
        u->hold_first = first->deaths >= (int)cli_number(s->c, OPT_CRASH_LIMIT);
    } else if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == EXIT_DONE) {
        drop_first(u); /* it is settled, cancelled, or another worker has it */
    } else { /* it has not come so far, or the database went away: that says nothing of the job */
        u->solo_again_us = now_us + ((int64_t)AGAIN_US << u->solo_failures);
        u->solo_failures += u->solo_failures < SOLO_DOUBLINGS;
    }
}

static void beat(supervisor *s, int64_t now_us)
{
    suspects *u = &s->suspects;
    pgq_error err = PGQ_ERROR_INIT;

    if (client_of(s) == NULL || !worked(s, pgq_suspects_beat(u->client, u->own_id, &err), &err))
        return;
    u->beat_at_us = now_us + base_min_i64(u->heartbeat_us / 4, BEAT_US);
}

/* Whatever is still picked under our id. */
static void sweep(supervisor *s)
{
    suspects *u = &s->suspects;
    pgq_error err = PGQ_ERROR_INIT;

    if (client_of(s) != NULL && worked(s, pgq_suspects_release(u->client, u->own_id, &err), &err))
        u->sweep = false;
}

static void run_first(supervisor *s, int64_t now_us)
{
    suspects *u = &s->suspects;

    if (u->hold_first || u->count == 0 || u->solo.pid != 0 || s->stopping ||
        now_us < u->solo_again_us)
        return;
    if (!child_start(s, &u->solo, u->own_id, u->list[0].id))
        u->solo_again_us = now_us + AGAIN_US;
}

void suspects_work(supervisor *s, int64_t now_us)
{
    suspects *u = &s->suspects;

    if (now_us < u->again_us)
        return;
    u->again_us = 0;
    if (u->take_count > 0) /* one in a turn: each may block for a while */
        (void)take_over(s, now_us);
    if (u->again_us == 0 && now_us >= u->beat_at_us)
        beat(s, now_us);
    if (u->again_us == 0 && u->hold_first)
        hold_first(s);
    if (u->again_us == 0 && u->sweep && u->count == 0)
        sweep(s);
    run_first(s, now_us);
}

void suspects_release(supervisor *s)
{
    suspects *u = &s->suspects;
    pgq_error err = PGQ_ERROR_INIT;

    if (suspects_idle(s) || client_of(s) == NULL)
        return;
    if (pgq_suspects_release(u->client, u->own_id, &err) != PGQ_OK)
        say(s, PGQ_LOG_WARNING, "suspects.not_released", 0, err.message);
}

int64_t suspects_deadline(const supervisor *s)
{
    const suspects *u = &s->suspects;

    if (u->again_us > 0)
        return u->again_us;
    if (u->take_count > 0) /* the next one, now: no process is started again before it is done */
        return 0;
    if (u->count > 0 && u->solo.pid == 0 && !s->stopping)
        return base_min_i64(u->beat_at_us, u->solo_again_us);
    return u->beat_at_us;
}
