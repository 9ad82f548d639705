#include "cli/run_signals.h"
#include "base/error.h"

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static const struct signal_row {
    int number;
    const char *name;
} rows[] = {
    {SIGTERM, "SIGTERM"},
    {SIGINT, "SIGINT"},
    {SIGHUP, "SIGHUP"},
    {SIGUSR1, "SIGUSR1"},
};

/* What the handler needs: it is called with nothing but a number, in any thread. */
static pgq_worker *volatile signal_worker;
static atomic_int stops;                  /* SIGTERM and SIGINT so far */
static atomic_int seen[BASE_COUNT(rows)]; /* not logged yet */
static sem_t bell;

static run_log *logger;
static pthread_t thread;
static atomic_bool ending;

static void on_stop(int number)
{
    static const char message[] = "pgqueuer: third signal, leaving at once\n";
    int before = atomic_fetch_add(&stops, 1);

    if (before == 0) {
        pgq_worker_stop(signal_worker);
    } else if (before == 1) {
        pgq_worker_hurry(signal_worker);
    } else {
        ssize_t ignored = write(STDERR_FILENO, message, sizeof(message) - 1);

        (void)ignored;
        _exit(128 + number);
    }
}

static void on_signal(int number)
{
    int kept = errno;

    if (number == SIGTERM || number == SIGINT)
        on_stop(number);
    else if (number == SIGUSR1)
        pgq_worker_report(signal_worker);
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        if (rows[i].number == number)
            atomic_fetch_add(&seen[i], 1);
    }
    (void)sem_post(&bell);
    errno = kept;
}

static void log_signals(void)
{
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        const pgq_log_field fields[] = {{"signal", rows[i].name, 0}};
        int count = atomic_exchange(&seen[i], 0);

        for (int n = 0; n < count; n++)
            run_log_event(logger, PGQ_LOG_INFO, "signal.received", fields, BASE_COUNT(fields));
        if (count > 0 && rows[i].number == SIGHUP) {
            (void)run_log_reload(logger);
            pgq_worker_set_log_level(signal_worker, run_log_worker_level(logger));
        }
    }
}

static void *serve(void *unused)
{
    (void)unused;
    while (!atomic_load(&ending)) {
        if (sem_wait(&bell) == 0)
            log_signals();
    }
    return NULL;
}

/* The thread takes no signal itself: a handler in it would only interrupt it. */
static bool start_thread(void)
{
    sigset_t all, kept;
    bool started;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &kept);
    started = pthread_create(&thread, NULL, serve, NULL) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &kept, NULL);
    return started;
}

pgq_code run_signals_begin(pgq_worker *worker, run_log *log, pgq_error *err)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigset_t ours;

    signal_worker = worker;
    logger = log;
    (void)sem_init(&bell, 0, 0);
    if (!start_thread())
        return error_set(err, PGQ_E_IO, "no thread can be started");
    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < BASE_COUNT(rows); i++)
        (void)sigaddset(&action.sa_mask, rows[i].number);
    for (size_t i = 0; i < BASE_COUNT(rows); i++)
        (void)sigaction(rows[i].number, &action, NULL);
    (void)sigemptyset(&ignore.sa_mask);
    (void)sigaction(SIGPIPE, &ignore, NULL); /* a reader of the log that left stops no worker */
    (void)sigemptyset(&ours);
    for (size_t i = 0; i < BASE_COUNT(rows); i++)
        (void)sigaddset(&ours, rows[i].number);
    /* a supervisor has them wait until they can be handled */
    (void)pthread_sigmask(SIG_UNBLOCK, &ours, NULL);
    return PGQ_OK;
}

void run_signals_end(void)
{
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        /* the work is done: what asks for more of it is not answered, and ends nothing */
        bool ends = rows[i].number == SIGTERM || rows[i].number == SIGINT;

        (void)signal(rows[i].number, ends ? SIG_DFL : SIG_IGN);
    }
    atomic_store(&ending, true);
    (void)sem_post(&bell);
    (void)pthread_join(thread, NULL);
    log_signals();
}
