/* The commands of the program: one row each. Help, completion and parsing walk this table. */
#include "cli/cli.h"

#define LIST(...)               \
    (const option_id[])         \
    {                           \
        __VA_ARGS__, OPTION_END \
    }

/* What `run` takes, and `config show` shows with the rest. */
#define RUN_OPTIONS                                                                               \
    OPT_BATCH_SIZE, OPT_THREADS, OPT_LANES, OPT_MAX_CONCURRENT_TASKS, OPT_DEQUEUE_TIMEOUT,        \
        OPT_HEARTBEAT_TIMEOUT, OPT_DRAIN_TIMEOUT, OPT_MODE, OPT_SHUTDOWN_ON_LISTENER_FAILURE,     \
        OPT_HEALTH_CHECK_INTERVAL, OPT_HEALTH_CHECK_TIMEOUT, OPT_LOG_AGGREGATION_INTERVAL,        \
        OPT_PROCESSES, OPT_RESTART_ON_FAILURE, OPT_RESTART_DELAY, OPT_CRASH_LIMIT, OPT_LOG_LEVEL, \
        OPT_LOG_FORMAT

const command commands[] = {
    {.name = "dev start",
     .group = "Start",
     .synopsis = "[OPTIONS]",
     .summary = "start a private PostgreSQL in ./.pgqueuer",
     .details = "Makes the server on the first start, with a database and a role 'pgqueuer'. Other "
                "commands use it when they are run in this folder and no database is given.\n"
                "PGQUEUER_PG_BIN names the folder of the server's programs (initdb, pg_ctl), if "
                "they are not found by themselves.",
     .run = cmd_dev_start,
     .options = LIST(OPT_SERVER_PORT)},
    {.name = "dev stop",
     .group = "Start",
     .synopsis = "",
     .summary = "stop the private PostgreSQL",
     .run = cmd_dev_stop},
    {.name = "dev status",
     .group = "Start",
     .synopsis = "[OPTIONS]",
     .summary = "show the private PostgreSQL; exit status 1 when it is stopped",
     .run = cmd_dev_status,
     .options = LIST(OPT_SHOW_PASSWORD)},
    {.name = "dev psql",
     .group = "Start",
     .synopsis = "[-- PSQL-ARGS...]",
     .summary = "open psql on the private PostgreSQL",
     .run = cmd_dev_psql,
     .passes_rest = true},
    {.name = "dev reset",
     .group = "Start",
     .synopsis = "[OPTIONS]",
     .summary = "delete all data of the private PostgreSQL and start it anew",
     .run = cmd_dev_reset,
     .options = LIST(OPT_YES, OPT_SERVER_PORT)},
    {.name = "demo",
     .group = "Start",
     .synopsis = "[OPTIONS] [DIR]",
     .summary = "hash the files of a folder with a real queue and show what happened",
     .details = "Uses the running private PostgreSQL of this folder, or one of its own that is "
                "removed afterwards. DIR is the current folder by default.",
     .run = cmd_demo,
     .args_max = 1,
     .options = LIST(OPT_KEEP)},

    {.name = "install",
     .group = "Schema",
     .synopsis = "[OPTIONS]",
     .summary = "create the tables and everything that belongs to them",
     .run = cmd_install,
     .connects = true,
     .names = true,
     .options = LIST(OPT_DURABILITY, OPT_CREATE_SCHEMA)},
    {.name = "uninstall",
     .group = "Schema",
     .synopsis = "[OPTIONS]",
     .summary = "drop the tables and everything that belongs to them",
     .run = cmd_uninstall,
     .connects = true,
     .names = true},
    {.name = "verify",
     .group = "Schema",
     .synopsis = "--expect present|absent [OPTIONS]",
     .summary = "compare the database with what install makes; exit status 1 if it differs",
     .run = cmd_verify,
     .connects = true,
     .names = true,
     .options = LIST(OPT_EXPECT)},
    {.name = "durability",
     .group = "Schema",
     .synopsis = "LEVEL [OPTIONS]",
     .summary = "set which tables survive a crash: durable, balanced or volatile",
     .details = "Rewrites the tables and locks them meanwhile.",
     .run = cmd_durability,
     .connects = true,
     .names = true,
     .args_min = 1,
     .args_max = 1},
    {.name = "autovac",
     .group = "Schema",
     .synopsis = "[OPTIONS]",
     .summary = "set the recommended autovacuum parameters of the tables",
     .run = cmd_autovac,
     .connects = true,
     .names = true,
     .options = LIST(OPT_ROLLBACK)},
    {.name = "sql install",
     .group = "Schema",
     .synopsis = "[OPTIONS]",
     .summary = "print what install sends; needs no connection",
     .run = cmd_sql_install,
     .names = true,
     .options = LIST(OPT_DURABILITY, OPT_CREATE_SCHEMA)},
    {.name = "sql uninstall",
     .group = "Schema",
     .synopsis = "[OPTIONS]",
     .summary = "print what uninstall sends",
     .run = cmd_sql_uninstall,
     .names = true},
    {.name = "sql durability",
     .group = "Schema",
     .synopsis = "LEVEL [OPTIONS]",
     .summary = "print what durability sends",
     .run = cmd_sql_durability,
     .names = true,
     .args_min = 1,
     .args_max = 1},
    {.name = "sql autovac",
     .group = "Schema",
     .synopsis = "[OPTIONS]",
     .summary = "print what autovac sends",
     .run = cmd_sql_autovac,
     .names = true,
     .options = LIST(OPT_ROLLBACK)},

    {.name = "queue",
     .group = "Produce",
     .synopsis = "ENTRYPOINT [PAYLOAD|-|@FILE] [OPTIONS]",
     .summary = "enqueue a job",
     .details = "The payload is the text itself, '-' for standard input, or @FILE for the bytes of "
                "a file; a text that begins with '@' goes through standard input. With --count "
                "above 10000 the jobs are enqueued in several transactions.",
     .run = cmd_queue,
     .connects = true,
     .names = true,
     .args_min = 1,
     .args_max = 2,
     .options = LIST(OPT_PRIORITY, OPT_DELAY, OPT_AT, OPT_HEADERS, OPT_DEDUPE_KEY, OPT_ON_CONFLICT,
                     OPT_COUNT)},

    {.name = "cancel",
     .group = "Act",
     .synopsis = "ID... [OPTIONS]",
     .summary = "cancel jobs, also running ones",
     .details = "A job that waits, is held, or belongs to a worker that went silent is deleted. A "
                "job that runs is left to its worker, which tells the handler and ends it as "
                "canceled. More than one id asks first, or needs --yes. Exit status 6 when none of "
                "the jobs is there, 1 when some are not.",
     .run = cmd_cancel,
     .connects = true,
     .names = true,
     .args_min = 1,
     .args_max = PGQ_CANCEL_IDS_MAX,
     .options = LIST(OPT_YES, OPT_HEARTBEAT_TIMEOUT)},
    {.name = "requeue",
     .group = "Act",
     .synopsis = "ID... [OPTIONS]",
     .summary = "put held jobs back into the queue",
     .details =
         "Those of the jobs that are held (status failed) are queued again, due at once, all "
         "of them or none; other ids are passed over.",
     .run = cmd_requeue,
     .connects = true,
     .names = true,
     .args_min = 1,
     .args_max = PGQ_REQUEUE_IDS_MAX},

    {.name = "run",
     .group = "Work",
     .synopsis = "FILE:SYMBOL [OPTIONS] [-- ARGS...]",
     .summary = "run a worker with the handlers of a shared object",
     .details =
         "Loads FILE, calls the pgq_factory SYMBOL with ARGS, and works until SIGTERM or "
         "SIGINT. The first signal lets running jobs finish, the second tells them to end and "
         "waits a second, the third does not wait. SIGHUP reads the log level again, SIGUSR1 logs "
         "the worker's state.\n"
         "Every 10 s a health check must come back through LISTEN. If not, that is logged as "
         "FailingListenerError and the listener is made anew while the worker polls; with "
         "--shutdown-on-listener-failure the worker ends with exit status 5, for systemd's "
         "Restart=on-failure and for Kubernetes.\n"
         "Example: pgqueuer run ./libjobs.so:factory --threads 8 -- first second",
     .run = cmd_run,
     .connects = true,
     .names = true,
     .passes_rest = true,
     .args_min = 1,
     .args_max = 1,
     .options = LIST(RUN_OPTIONS)},

    {.name = "help",
     .group = "About",
     .synopsis = "[COMMAND]",
     .summary = "show the commands, or the options of one",
     .run = cmd_help,
     .args_max = 2},
    {.name = "version",
     .group = "About",
     .synopsis = "",
     .summary = "show the version",
     .run = cmd_version},
    {.name = "config show",
     .group = "About",
     .synopsis = "[OPTIONS]",
     .summary = "show every setting, its value and where that comes from",
     .run = cmd_config_show,
     .connects = true,
     .names = true,
     .options = LIST(OPT_DURABILITY, RUN_OPTIONS)},
    {.name = "completion",
     .group = "About",
     .synopsis = "bash|zsh|fish",
     .summary = "print a completion script for a shell",
     .details =
         "For bash: source <(pgqueuer completion bash). For zsh the same. For fish: pgqueuer "
         "completion fish | source.",
     .run = cmd_completion,
     .args_min = 1,
     .args_max = 1},
};

const size_t command_count = BASE_COUNT(commands);
