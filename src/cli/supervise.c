/* The supervisor: starts worker processes, watches them, starts them again, passes signals on, and
 * tells systemd. A child that was killed leaves suspects: see supervise_suspects.c. */
#include "cli/supervise.h"
#include "base/clock.h"
#include "base/error.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    SHORT_LIFE_US = 10 * 1000 * 1000,
    DELAY_MIN_US = 100 * 1000, /* of a delay that is doubled */
    DELAY_MAX_US = 60 * 1000 * 1000,
    STALE_PULSE_US = 5 * 1000 * 1000, /* a loop that has not turned for so long hangs */
    STARTING_US = 60 * 1000 * 1000,   /* and so does a factory that takes longer */
    TURN_US = 1000 * 1000             /* how often the children are looked at */
};

static const int watched_signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGCHLD};

/* ---- starting ---- */

static void start(supervisor *s, child *ch)
{
    pgq_log_field fields[] = {{"place", NULL, ch - s->children}, {"pid", NULL, 0}};

    if (!child_start(s, ch, NULL, 0)) {
        ch->restart_at_us = clock_monotonic_us() + TURN_US;
        return;
    }
    fields[1].number = ch->pid;
    run_log_event(&s->log, PGQ_LOG_INFO, "worker.process_started", fields, BASE_COUNT(fields));
}

static pgq_code open_supervisor(supervisor *s, pgq_error *err)
{
    sigset_t mask;
    pgq_code code;

    run_log_open(&s->log, s->c);
    s->watchdog_us = run_watchdog_us();
    (void)sigemptyset(&mask);
    for (size_t i = 0; i < BASE_COUNT(watched_signals); i++)
        (void)sigaddset(&mask, watched_signals[i]);
    (void)sigprocmask(SIG_BLOCK, &mask, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGCHLD, SIG_DFL); /* whoever started us may have ignored it */
    s->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    s->argv = cli_own_arguments();
    if (s->signal_fd < 0 || s->argv == NULL)
        return error_set(err, PGQ_E_IO, "the supervisor cannot be set up: %s", strerror(errno));
    code = suspects_open(s, err);
    while (code == PGQ_OK && s->child_count < (size_t)cli_number(s->c, OPT_PROCESSES)) {
        if (!child_open(&s->children[s->child_count], err))
            return PGQ_E_IO;
        s->child_count++;
    }
    return code;
}

/* ---- stopping ---- */

static void signal_all(supervisor *s, int number)
{
    for (size_t i = 0; i < s->child_count; i++) {
        if (s->children[i].pid > 0)
            (void)kill(s->children[i].pid, number);
    }
    if (s->suspects.solo.pid > 0)
        (void)kill(s->suspects.solo.pid, number);
}

static void stop(supervisor *s)
{
    if (s->stopping)
        return;
    s->stopping = true;
    run_notify("STOPPING=1\nSTATUS=stopping");
    for (size_t i = 0; i < s->child_count; i++) {
        s->children[i].restart_at_us = CLOCK_NEVER;
        s->children[i].over |= s->children[i].pid == 0;
    }
    signal_all(s, SIGTERM);
}

static void report(supervisor *s)
{
    int64_t running = 0;

    for (size_t i = 0; i < s->child_count; i++)
        running += s->children[i].pid > 0;
    {
        const pgq_log_field fields[] = {
            {"pid", NULL, getpid()},
            {"processes", NULL, running},
            {"wanted", NULL, (int64_t)s->child_count},
            {"restarts", NULL, (int64_t)s->restarts},
            {"suspects", NULL, (int64_t)s->suspects.count},
            {"stopping", s->stopping ? "yes" : "no", 0},
        };

        run_log_sink(&s->log, PGQ_LOG_INFO, "supervisor.state", fields, BASE_COUNT(fields));
    }
}

static void take_end_signal(supervisor *s, int number)
{
    const pgq_log_field fields[] = {{"signal", number == SIGINT ? "SIGINT" : "SIGTERM", 0}};

    s->signals_to_end++;
    if (s->signals_to_end == 3 && s->status == EXIT_DONE)
        s->status = 128 + number;
    run_log_event(&s->log, PGQ_LOG_INFO, "signal.received", fields, BASE_COUNT(fields));
    if (s->signals_to_end == 1)
        stop(s);
    else
        signal_all(s, s->signals_to_end == 2 ? SIGTERM : SIGKILL);
}

/* ---- the end of a child ---- */

bool child_crashed(const supervisor *s, const child *ch, int wait_status)
{
    if (s->signals_to_end >= 3) /* the signal was ours */
        return false;
    if (WIFSIGNALED(wait_status))
        return true;
    /* a worker that ends by itself lets its handlers end first, or says that it could not */
    return !s->stopping && WEXITSTATUS(wait_status) != pgq_code_exit_status(PGQ_E_TIMEOUT) &&
           pgq_ledger_running(ch->ledger, NULL, 0) > 0;
}

/* A worker that was told to stop before it had set up its signals, or when it had taken them down,
 * has stopped. */
static bool stopped_by_signal(const supervisor *s, int wait_status)
{
    return s->stopping && WIFSIGNALED(wait_status) &&
           (WTERMSIG(wait_status) == SIGTERM || WTERMSIG(wait_status) == SIGINT);
}

/* Whether it makes no sense to try again: a process that has not come as far as running its worker
 * has a factory or options that will be wrong the next time too. */
static bool hopeless(const child *ch)
{
    return !ch->was_ready;
}

static void plan_restart(supervisor *s, child *ch, int64_t now_us)
{
    int64_t first_us = cli_number(s->c, OPT_RESTART_DELAY) * 1000;
    int64_t lived_us = now_us - ch->started_us;
    pgq_log_field fields[] = {{"place", NULL, ch - s->children}, {"delay_ms", NULL, 0}};

    if (ch->delay_us == 0 || lived_us >= SHORT_LIFE_US)
        ch->delay_us = first_us;
    else
        ch->delay_us = base_min_i64(base_max_i64(2 * ch->delay_us, DELAY_MIN_US),
                                    base_max_i64(DELAY_MAX_US, first_us));
    ch->restart_at_us = now_us + ch->delay_us;
    s->restarts++;
    fields[1].number = ch->delay_us / 1000;
    run_log_event(&s->log, PGQ_LOG_WARNING, "worker.restarting", fields, BASE_COUNT(fields));
}

static void say_exited(supervisor *s, pid_t pid, int wait_status)
{
    bool killed = WIFSIGNALED(wait_status);
    const char *name = killed ? sigabbrev_np(WTERMSIG(wait_status)) : NULL;
    char signal_name[24];
    pgq_log_field fields[2] = {{"pid", NULL, pid}};

    (void)snprintf(signal_name, sizeof(signal_name), "SIG%s", name != NULL ? name : "?");
    if (killed)
        fields[1] = (pgq_log_field){"signal", signal_name, 0};
    else
        fields[1] = (pgq_log_field){"status", NULL, WEXITSTATUS(wait_status)};
    run_log_event(&s->log, killed || WEXITSTATUS(wait_status) != 0 ? PGQ_LOG_ERROR : PGQ_LOG_INFO,
                  "worker.exited", fields, 2);
}

static void child_ended(supervisor *s, child *ch, int wait_status, int64_t now_us)
{
    bool stopped = stopped_by_signal(s, wait_status);
    bool crashed = !stopped && child_crashed(s, ch, wait_status);
    int status = WIFSIGNALED(wait_status) ? EXIT_FAILED : WEXITSTATUS(wait_status);
    pgq_ledger_view view;

    pgq_ledger_look(ch->ledger, &view);
    ch->was_ready |= view.listening || view.worker_id[0] != '\0';
    say_exited(s, ch->pid, wait_status);
    ch->pid = 0;
    if (stopped)
        status = EXIT_DONE;
    else if (crashed && status == EXIT_DONE)
        status = EXIT_FAILED; /* a handler has ended the process */
    if (crashed)
        suspects_add(s, ch, now_us);
    if (status != EXIT_DONE && cli_flag(s->c, OPT_RESTART_ON_FAILURE) && !s->stopping &&
        !hopeless(ch)) {
        plan_restart(s, ch, now_us);
        return;
    }
    ch->over = true;
    if (status == EXIT_DONE)
        return;
    if (s->status == EXIT_DONE)
        s->status = status;
    stop(s);
}

static void reap(supervisor *s, int64_t now_us)
{
    int wait_status;
    pid_t pid;

    while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0) {
        if (pid == s->suspects.solo.pid) {
            say_exited(s, pid, wait_status);
            suspects_ended(s, wait_status, now_us);
        }
        for (size_t i = 0; i < s->child_count; i++) {
            if (s->children[i].pid == pid)
                child_ended(s, &s->children[i], wait_status, now_us);
        }
    }
}

static void take_signals(supervisor *s)
{
    struct signalfd_siginfo info;

    while (read(s->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        switch ((int)info.ssi_signo) {
        case SIGTERM:
        case SIGINT:
            take_end_signal(s, (int)info.ssi_signo);
            break;
        case SIGUSR1:
            report(s);
            signal_all(s, SIGUSR1);
            break;
        case SIGHUP:
            (void)run_log_reload(&s->log);
            signal_all(s, SIGHUP);
            break;
        default:
            break; /* SIGCHLD: reap looks after every turn */
        }
    }
}

/* ---- systemd ---- */

/* Every child that should run runs, listens, and turns its loop. */
static bool all_well(const supervisor *s, int64_t now_us, bool *ret_listening)
{
    bool well = true;

    *ret_listening = true;
    for (size_t i = 0; i < s->child_count; i++) {
        const child *ch = &s->children[i];
        pgq_ledger_view view;

        if (ch->over)
            continue;
        pgq_ledger_look(ch->ledger, &view);
        *ret_listening &= ch->pid > 0 && view.listening;
        if (ch->pid > 0 && now_us - base_max_i64(view.alive_us, ch->started_us) >
                               (view.alive_us != 0 ? STALE_PULSE_US : STARTING_US))
            well = false;
    }
    return well;
}

static void tell_systemd(supervisor *s, int64_t now_us)
{
    bool listening, well = all_well(s, now_us, &listening);

    if (listening && !s->ready_told && !s->stopping) {
        s->ready_told = true;
        run_notify("READY=1\nSTATUS=listening");
    }
    if (s->watchdog_us > 0 && well && now_us >= s->watchdog_at_us) {
        run_notify("WATCHDOG=1");
        s->watchdog_at_us = now_us + s->watchdog_us / 2;
    }
}

/* ---- the loop ---- */

static bool over(const supervisor *s)
{
    if (s->suspects.solo.pid > 0)
        return false;
    for (size_t i = 0; i < s->child_count; i++) {
        if (!s->children[i].over)
            return false;
    }
    return s->stopping || suspects_idle(s);
}

static int64_t deadline(const supervisor *s, int64_t now_us)
{
    int64_t at = base_min_i64(now_us + TURN_US, suspects_deadline(s));

    if (s->watchdog_us > 0)
        at = base_min_i64(at, now_us + base_max_i64(s->watchdog_us / 4, 1000));
    if (!s->ready_told)
        at = base_min_i64(at, now_us + TURN_US / 10);
    for (size_t i = 0; i < s->child_count; i++)
        at = base_min_i64(at, s->children[i].restart_at_us);
    return at;
}

static void turn(supervisor *s)
{
    struct pollfd waits = {s->signal_fd, POLLIN, 0};
    int64_t now_us = clock_monotonic_us();

    (void)poll(&waits, 1, clock_poll_ms(now_us, deadline(s, now_us)));
    take_signals(s);
    now_us = clock_monotonic_us();
    reap(s, now_us);
    suspects_work(s, now_us);
    for (size_t i = 0; i < s->child_count; i++) {
        child *ch = &s->children[i];

        /* what a crashed process ran is taken over before it comes back */
        if (now_us >= ch->restart_at_us && !suspects_to_take(s))
            start(s, ch);
    }
    tell_systemd(s, now_us);
}

int supervise(cli *c)
{
    supervisor s = {.c = c, .signal_fd = -1};
    pgq_error err = PGQ_ERROR_INIT;
    int status = EXIT_DONE;

    if (open_supervisor(&s, &err) != PGQ_OK) {
        status = cli_report(&err);
    } else {
        for (size_t i = 0; i < s.child_count; i++)
            start(&s, &s.children[i]);
        while (!over(&s))
            turn(&s);
        if (s.signals_to_end < 3)
            suspects_release(&s);
        status = s.status;
    }
    for (size_t i = 0; i < s.child_count; i++)
        child_close(&s.children[i]);
    suspects_close(&s);
    if (s.signal_fd >= 0)
        (void)close(s.signal_fd);
    if (s.argv != NULL) {
        free(s.argv[0]);
        free(s.argv);
    }
    run_log_close(&s.log);
    return status;
}
