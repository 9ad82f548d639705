/* Carrying out the plan of an upgrade: one step after the other, under the advisory lock of the
 * catalogue, without ever keeping the queue waiting for long.
 *
 * A statement that wants a lock stands in the server's queue, and everybody who comes later stands
 * behind it. So it stands there for `lock_timeout_ms` at most; then it goes away, lets the others
 * work for a while, and tries again. While it waits, a second connection asks who is in the way. */
#include "base/clock.h"
#include "base/error.h"
#include "schema/explain.h"
#include "schema/plan.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

enum {
    LOCK_TIMEOUT_MS_MAX = 3600000,
    PATIENCE_MS_MAX = 604800000,
    LOOK_MS_MAX = 250,   /* until the first look at who is in the way, and between looks */
    LOOK_LONG_MS = 1000, /* likewise, of an attempt that takes */
    LONG_MS = 10 * 1000, /* so long */
    /* The server cancels an autovacuum that keeps somebody waiting, but not before its
     * deadlock_timeout of a second. */
    AUTOVACUUM_MS = 1500,
    PAUSE_MS_MIN = 250,
    PAUSE_MS_MAX = 8000,
    ROUNDS_MAX = 3, /* what others change meanwhile may need another look */
    YIELDS_MAX = 20,
    BLOCKERS_BYTES = 256
};

typedef struct upgrade {
    pgq_client *client;
    const pgq_upgrade_options *options;
    pg_conn *watcher;        /* NULL until it is needed */
    int32_t pid;             /* the server's side of the client's connection */
    int64_t key;             /* of the advisory lock */
    int64_t lock_timeout_ms; /* as the session has it; 0: not set yet */
    size_t applied;
    const char *what;              /* the step under way */
    char blockers[BLOCKERS_BYTES]; /* of it, as last seen; "": nobody */
    bool autovacuum;               /* is among them */
} upgrade;

static void note(const upgrade *u, const char *format, ...) BASE_PRINTF(2, 3);

static void note(const upgrade *u, const char *format, ...)
{
    char text[PGQ_MESSAGE_BYTES];
    va_list args;

    if (u->options->note == NULL)
        return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    u->options->note(u->options->user, text);
}

static bool open_watcher(upgrade *u, int64_t deadline_us)
{
    if (u->watcher == NULL &&
        pg_conn_new(&u->client->where, u->client->statements, &u->watcher) != PGQ_OK)
        return false;
    return pg_conn_open(u->watcher, deadline_us, NULL) == PGQ_OK;
}

/* Asks who is in the way. An upgrade does not fail for want of an answer. */
static void look(void *user)
{
    upgrade *u = user;
    int64_t deadline_us = clock_monotonic_us() + 2000000;
    params p = PARAMS_INIT;
    pg_result rows = PG_RESULT_INIT;
    const char *found;

    param_int4(&p, u->pid);
    if (open_watcher(u, deadline_us) && pg_conn_call(u->watcher, STATEMENT_UPGRADE_BLOCKERS, &p,
                                                     deadline_us, &rows, NULL, NULL) == PGQ_OK) {
        found = result_rows(&rows) > 0 ? result_text(&rows, 0, 0) : NULL;
        u->autovacuum = found != NULL && result_bool(&rows, 0, 1);
        if (found != NULL && strncmp(found, u->blockers, sizeof(u->blockers) - 1) != 0) {
            (void)snprintf(u->blockers, sizeof(u->blockers), "%s", found);
            note(u, "%s: waiting for %s", u->what, u->blockers);
        }
    }
    result_release(&rows);
    params_release(&p);
}

static pgq_code set_lock_timeout(upgrade *u, int64_t ms, pgq_error *err)
{
    char sql[64];
    pgq_code code;

    ms = base_max_i64(ms, 1);
    if (ms == u->lock_timeout_ms)
        return PGQ_OK;
    (void)snprintf(sql, sizeof(sql), "SET lock_timeout = %" PRId64, ms);
    code = pg_conn_call_sql(u->client->conn, sql, CLOCK_NEVER, NULL, err);
    u->lock_timeout_ms = code == PGQ_OK ? ms : 0;
    return code;
}

/* Sends statements once. They wait for locks for `ms` at most. */
static pgq_code attempt(upgrade *u, const char *const *sqls, size_t count, int64_t ms,
                        pgq_error *err)
{
    int64_t every_ms = base_max_i64(base_min_i64(LOOK_MS_MAX, ms / 2), 1);
    pg_watch watch = {
        .look = look,
        .user = u,
        .every_us = 1000 * (ms > LONG_MS ? (int64_t)LOOK_LONG_MS : every_ms),
    };
    pgq_code code = set_lock_timeout(u, ms, err);

    if (code != PGQ_OK)
        return code;
    return pg_conn_run_watched(u->client->conn, sqls, count, &watch, err);
}

static void pause_ms(int64_t ms)
{
    struct timespec left = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
        continue;
}

static bool is_deadlock(const pgq_error *e)
{
    return base_streq(e->sqlstate, "40P01");
}

static bool was_in_the_way(const pgq_error *e)
{
    return base_streq(e->sqlstate, "55P03") || is_deadlock(e);
}

static pgq_code give_up(const upgrade *u, pgq_error *err)
{
    char seconds[32];

    (void)snprintf(seconds, sizeof(seconds), "%.3g", (double)u->options->patience_ms / 1000);
    (void)error_set(err, PGQ_E_TIMEOUT,
                    "%s: the lock was not to be had within %s s; in the way: %s", u->what, seconds,
                    u->blockers[0] != '\0' ? u->blockers : "unknown");
    error_hint(err, "end that transaction, perhaps with pg_terminate_backend, and run the upgrade "
                    "again: what is done stays done");
    if (err != NULL)
        err->retryable = true;
    return PGQ_E_TIMEOUT;
}

/* An index that could not be completed costs every writer time. Others may be in the way here too;
 * then the next attempt or the next upgrade drops it. */
static void drop_leftover(upgrade *u, const char *index)
{
    char sql[256];

    if (index == NULL || pg_conn_state(u->client->conn) != PG_READY)
        return;
    (void)snprintf(sql, sizeof(sql), "DROP INDEX IF EXISTS %s", index);
    if (set_lock_timeout(u, u->options->lock_timeout_ms, NULL) == PGQ_OK)
        (void)pg_conn_call_sql(u->client->conn, sql, CLOCK_NEVER, NULL, NULL);
}

static int64_t attempt_ms(const upgrade *u)
{
    return u->autovacuum ? base_max_i64(u->options->lock_timeout_ms, AUTOVACUUM_MS)
                         : u->options->lock_timeout_ms;
}

/* Sends the statements of a step until they are carried out or patience ends. A deadlock of a
 * patient one is not for another attempt: it waits for the end of a transaction that waits for our
 * advisory lock. */
static pgq_code insist(upgrade *u, const char *const *sqls, size_t count, const plan_part *part,
                       pgq_error *err)
{
    int64_t end_us = clock_monotonic_us() + u->options->patience_ms * 1000;
    int64_t wait_ms = PAUSE_MS_MIN;

    u->blockers[0] = '\0';
    u->autovacuum = false;
    for (;;) {
        int64_t left_ms = (end_us - clock_monotonic_us() + 999) / 1000;
        int64_t most_ms = part->patient ? left_ms : base_min_i64(left_ms, attempt_ms(u));
        pgq_error local = PGQ_ERROR_INIT;
        pgq_code code = attempt(u, sqls, count, most_ms, &local);

        if (code == PGQ_OK)
            return PGQ_OK;
        drop_leftover(u, part->leftover);
        left_ms = (end_us - clock_monotonic_us()) / 1000;
        if (was_in_the_way(&local) && left_ms <= 1)
            return give_up(u, err);
        if (!was_in_the_way(&local) || (part->patient && is_deadlock(&local))) {
            if (err != NULL)
                *err = local;
            return code;
        }
        wait_ms = base_min_i64(wait_ms, left_ms);
        note(u,
             "%s: the lock was not to be had within %" PRId64 " ms; trying again in %" PRId64 " ms",
             u->what, most_ms, wait_ms);
        pause_ms(wait_ms);
        wait_ms = base_min_i64(wait_ms * 2, PAUSE_MS_MAX);
    }
}

static pgq_code apply(upgrade *u, const pgq_plan *plan, pgq_error *err)
{
    for (size_t i = 0; i < plan->count; i++) {
        const plan_part *part = &plan->parts[i];
        pgq_code code;

        u->what = plan->steps[i].what;
        if (part->count == 0)
            continue;
        code = insist(u, plan->script.sqls + part->first, part->count, part, err);
        if (code != PGQ_OK) {
            if (code != PGQ_E_TIMEOUT)
                code = explain_error(code, "upgrade", err);
            error_where(err, "upgrade: %s", u->what);
            return code;
        }
        u->applied += part->count;
        note(u, "%s: done", u->what);
    }
    return PGQ_OK;
}

static size_t statements_of(const pgq_plan *plan)
{
    size_t count = 0;

    for (size_t i = 0; i < plan->count; i++)
        count += plan->parts[i].count;
    return count;
}

/* `apply`: it is going to be carried out, so a right that would be found missing half-way is looked
 * for first. */
static pgq_code make_plan(pgq_client *client, const pgq_upgrade_options *options, bool apply,
                          pgq_plan **ret_plan, pgq_error *err)
{
    live_catalog live;
    pgq_code code = live_read(client, CLOCK_NEVER, &live, err);

    if (code != PGQ_OK)
        return code;
    if (live.schema == NULL)
        code = explain_no_schema(&live, err);
    else
        code = plan_make(&live, &client->names, options, ret_plan, err);
    assert(code != PGQ_OK || *ret_plan != NULL);
    if (code == PGQ_OK && apply && (*ret_plan)->creates && live.schema_exists && !live.may_create) {
        *ret_plan = pgq_plan_free(*ret_plan);
        code = explain_may_not_create(&live, err);
    }
    live_release(&live);
    return code;
}

static pgq_code try_lock(upgrade *u, bool *ret_taken, pgq_error *err)
{
    params p = PARAMS_INIT;
    pg_result rows = PG_RESULT_INIT;
    const char *holder;
    pgq_code code;

    param_int8(&p, u->key);
    code = pg_conn_call(u->client->conn, STATEMENT_UPGRADE_LOCK, &p, CLOCK_NEVER, &rows, NULL, err);
    params_release(&p);
    if (code != PGQ_OK)
        return code;
    *ret_taken = result_bool(&rows, 0, 0);
    holder = *ret_taken ? NULL : result_text(&rows, 0, 1);
    if (holder != NULL && strncmp(holder, u->blockers, sizeof(u->blockers) - 1) != 0) {
        (void)snprintf(u->blockers, sizeof(u->blockers), "%s", holder);
        note(u, "%s: waiting for %s", u->what, u->blockers);
    }
    result_release(&rows);
    return PGQ_OK;
}

/* Takes the advisory lock: whoever installs or upgrades, the Python release too, is waited for. */
static pgq_code lock(upgrade *u, pgq_error *err)
{
    int64_t end_us = clock_monotonic_us() + u->options->patience_ms * 1000;
    bool taken = false;

    u->what = "take the advisory lock of upgrades";
    u->blockers[0] = '\0';
    for (;;) {
        pgq_code code = try_lock(u, &taken, err);

        if (code != PGQ_OK || taken)
            return code;
        if (clock_monotonic_us() >= end_us)
            return give_up(u, err);
        pause_ms(PAUSE_MS_MIN);
    }
}

static void unlock(const upgrade *u)
{
    char sql[64];

    (void)snprintf(sql, sizeof(sql), "SELECT pg_advisory_unlock(%" PRId64 ")", u->key);
    if (pg_conn_state(u->client->conn) == PG_READY)
        (void)pg_conn_call_sql(u->client->conn, sql, CLOCK_NEVER, NULL, NULL);
}

/* One look, and what follows from it. ret_count: how many statements that were. */
static pgq_code work_round(upgrade *u, size_t *ret_count, pgq_error *err)
{
    pgq_plan *plan = NULL;
    pgq_code code = make_plan(u->client, u->options, true, &plan, err);

    if (code != PGQ_OK)
        return code;
    assert(plan != NULL);
    *ret_count = statements_of(plan);
    for (size_t i = 0; *ret_count == 0 && i < plan->count; i++)
        note(u, "note: %s: %s", plan->steps[i].what, plan->steps[i].why);
    code = apply(u, plan, err);
    (void)pgq_plan_free(plan);
    return code;
}

/* Looks and applies until there is nothing left to do. The Python release waits for the advisory
 * lock in a statement, and building an index waits for all statements that have begun: then the
 * other one goes first, and we look again at what it has left to do. */
static pgq_code work(upgrade *u, pgq_error *err)
{
    int rounds = 0, yields = 0;

    for (;;) {
        pgq_error local = PGQ_ERROR_INIT;
        size_t count = 0;
        pgq_code code = work_round(u, &count, &local);

        if (code == PGQ_OK && count == 0)
            return PGQ_OK;
        if (code != PGQ_OK && is_deadlock(&local) && yields++ < YIELDS_MAX) {
            note(u, "%s: letting another installation or upgrade go first", u->what);
            unlock(u);
            pause_ms(PAUSE_MS_MIN);
            code = lock(u, &local);
        } else if (code == PGQ_OK && ++rounds >= ROUNDS_MAX) {
            code = error_set(&local, PGQ_E_SCHEMA_MISMATCH,
                             "the database still differs after %d rounds", ROUNDS_MAX);
            error_hint(&local, "pgqueuer upgrade --plan shows what is left; somebody else may be "
                               "changing it");
        }
        if (code != PGQ_OK) {
            if (err != NULL)
                *err = local;
            return code;
        }
    }
}

/* A session of our own on the server: locks and settings are the session's. */
static pgq_code check_session(upgrade *u, pgq_error *err)
{
    pg_result rows = PG_RESULT_INIT;
    pgq_code code =
        pg_conn_call(u->client->conn, STATEMENT_UPGRADE_PID, NULL, CLOCK_NEVER, &rows, NULL, err);

    if (code != PGQ_OK)
        return code;
    u->pid = result_int4(&rows, 0, 0);
    result_release(&rows);
    if (u->pid == pg_conn_backend(u->client->conn))
        return PGQ_OK;
    (void)error_set(err, PGQ_E_UNSUPPORTED, "an upgrade cannot go through a pooler");
    error_hint(err, "connect to the server itself for it");
    return PGQ_E_UNSUPPORTED;
}

/* The server notices within a second that we were killed, also while a statement waits or works; on
 * systems where it cannot, it goes on to the statement's end. */
static pgq_code begin(upgrade *u, pgq_error *err)
{
    pg_conn *conn = u->client->conn;
    pgq_code code = pg_conn_call_sql(conn, "SET statement_timeout = 0", CLOCK_NEVER, NULL, err);

    if (code != PGQ_OK)
        return code;
    code = pg_conn_call_sql(conn, "SET client_connection_check_interval = '1s'", CLOCK_NEVER, NULL,
                            err);
    if (code != PGQ_OK && pg_conn_state(conn) != PG_READY)
        return code;
    return lock(u, err);
}

/* Leaves the session as it was. */
static void end(upgrade *u)
{
    static const char *const sqls[] = {"RESET lock_timeout", "RESET statement_timeout",
                                       "RESET client_connection_check_interval"};

    unlock(u);
    for (size_t i = 0; i < BASE_COUNT(sqls); i++) {
        if (pg_conn_state(u->client->conn) == PG_READY)
            (void)pg_conn_call_sql(u->client->conn, sqls[i], CLOCK_NEVER, NULL, NULL);
    }
    (void)pg_conn_free(u->watcher);
}

static pgq_code copy_options(const pgq_client *client, const pgq_upgrade_options *options,
                             pgq_upgrade_options *own, pgq_error *err)
{
    pgq_code code = base_copy_options(own, sizeof(*own), options, "pgq_upgrade_options", err);

    if (code != PGQ_OK)
        return code;
    if ((unsigned)own->durability >= CATALOG_DURABILITY_COUNT)
        return error_set(err, PGQ_E_INVALID, "there is no durability %d", (int)own->durability);
    if (own->lock_timeout_ms < 1 || own->lock_timeout_ms > LOCK_TIMEOUT_MS_MAX)
        return error_set(err, PGQ_E_INVALID, "lock_timeout_ms is not between 1 and %d: %d",
                         LOCK_TIMEOUT_MS_MAX, own->lock_timeout_ms);
    if (own->patience_ms < 1 || own->patience_ms > PATIENCE_MS_MAX)
        return error_set(err, PGQ_E_INVALID, "patience_ms is not between 1 and %d: %" PRId64,
                         PATIENCE_MS_MAX, own->patience_ms);
    code = catalog_check_names(&client->names, err);
    if (code == PGQ_OK && own->extras)
        code = catalog_check_extras(&client->names, err);
    return code;
}

pgq_code pgq_schema_plan(pgq_client *client, const pgq_upgrade_options *options,
                         pgq_plan **ret_plan, pgq_error *err)
{
    pgq_upgrade_options own = PGQ_UPGRADE_OPTIONS_INIT;
    int64_t deadline_us;
    pgq_code code = copy_options(client, options, &own, err);

    if (code == PGQ_OK)
        code = client_begin(client, &deadline_us, err);
    return code == PGQ_OK ? make_plan(client, &own, false, ret_plan, err) : code;
}

pgq_code pgq_schema_upgrade(pgq_client *client, const pgq_upgrade_options *options,
                            size_t *ret_applied, pgq_error *err)
{
    pgq_upgrade_options own = PGQ_UPGRADE_OPTIONS_INIT;
    upgrade u = {.client = client, .options = &own};
    int64_t deadline_us;
    pgq_code code;

    if (ret_applied != NULL)
        *ret_applied = 0;
    code = copy_options(client, options, &own, err);
    if (code == PGQ_OK)
        code = catalog_lock_key(&client->names, &u.key, err);
    if (code == PGQ_OK)
        code = client_begin(client, &deadline_us, err);
    if (code == PGQ_OK)
        code = check_session(&u, err);
    if (code != PGQ_OK)
        return code;
    code = begin(&u, err);
    if (code == PGQ_OK)
        code = work(&u, err);
    end(&u);
    if (ret_applied != NULL)
        *ret_applied = u.applied;
    return code;
}
