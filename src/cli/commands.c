/* The commands of the program: one row each. Help, completion and parsing walk this table. */
#include "cli/cli.h"

#define LIST(...)               \
    (const option_id[])         \
    {                           \
        __VA_ARGS__, OPTION_END \
    }

/* What `run` takes, and `config show` shows with the rest. */
#define RUN_OPTIONS                                                                              \
    OPT_BATCH_SIZE, OPT_THREADS, OPT_LANES, OPT_LANE, OPT_LEASE, OPT_LOG_POLICY,                 \
        OPT_MAX_CONCURRENT_TASKS, OPT_DEQUEUE_TIMEOUT, OPT_HEARTBEAT_TIMEOUT, OPT_DRAIN_TIMEOUT, \
        OPT_MODE, OPT_SHUTDOWN_ON_LISTENER_FAILURE, OPT_HEALTH_CHECK_INTERVAL,                   \
        OPT_HEALTH_CHECK_TIMEOUT, OPT_LOG_AGGREGATION_INTERVAL, OPT_PROCESSES,                   \
        OPT_RESTART_ON_FAILURE, OPT_RESTART_DELAY, OPT_CRASH_LIMIT, OPT_LOG_LEVEL, OPT_LOG_FORMAT

#define BENCH_OPTIONS                                                                       \
    OPT_JOBS, OPT_ROUNDS, OPT_WORKERS, OPT_LANE, OPT_LOG_POLICY, OPT_BATCH_SIZE, OPT_LANES, \
        OPT_THREADS, OPT_LEASE, OPT_BARE, OPT_JSON, OPT_OUTPUT

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
    {.name = "bench drain",
     .group = "Start",
     .synopsis = "[OPTIONS]",
     .summary = "measure how many jobs a second it does, and what one costs",
     .details = "Enqueues jobs that do nothing and has a worker do them, with each lane and log "
                "policy, tuned and with the defaults of `run`; says what a job costs: bytes of "
                "WAL, commits, statements, dead rows, the worker's CPU time. A schema of its own "
                "is made for it and removed at the end; the queue of the database is not touched. "
                "What else the server does is in the figures: give it a quiet one.\nExample: "
                "pgqueuer bench drain --jobs 200000 --rounds 5",
     .run = cmd_bench_drain,
     .connects = true,
     .options = LIST(BENCH_OPTIONS)},
    {.name = "bench latency",
     .group = "Start",
     .synopsis = "[OPTIONS]",
     .summary = "measure how long it is from a job's commit to the start of its handler",
     .details = "The worker is idle and is told by LISTEN. The time runs from the moment at which "
                "the producer knows of its commit; p50, p99 and the longest are shown.",
     .run = cmd_bench_latency,
     .connects = true,
     .options = LIST(BENCH_OPTIONS)},
    {.name = "bench horizon",
     .group = "Start",
     .synopsis = "[OPTIONS]",
     .summary = "measure how slow a long transaction elsewhere makes the queue",
     .details = "A session holds the xmin horizon, as a backup or a forgotten transaction does, so "
                "that no dead row can be removed. One worker runs through while the jobs come in "
                "ten steps; the rates of the first and the last one are shown, beside those "
                "without such a session. --jobs 500000 is the full measure.",
     .run = cmd_bench_horizon,
     .connects = true,
     .options = LIST(BENCH_OPTIONS)},
    {.name = "bench backlog",
     .group = "Start",
     .synopsis = "[OPTIONS]",
     .summary = "measure how slow a long queue is",
     .details = "Two queues are filled, with --jobs jobs and with a tenth of that (100000 at "
                "most); some thousand jobs of each are done. --jobs 10000000 is the full measure; "
                "it needs some gigabytes.",
     .run = cmd_bench_backlog,
     .connects = true,
     .options = LIST(BENCH_OPTIONS)},
    {.name = "bench limits",
     .group = "Start",
     .synopsis = "[OPTIONS]",
     .summary = "say what limits a queue in this database, and what would help",
     .details = "Measures a round trip and a commit, and looks at what holds the xmin horizon, at "
                "replication, connections, a pooler and some settings. It takes a second or two, "
                "makes no object, and needs no right but to connect. The other kinds say it too, "
                "below their table.",
     .run = cmd_bench_limits,
     .connects = true,
     .options = LIST(OPT_JSON, OPT_OUTPUT)},

    {.name = "install",
     .group = "Schema",
     .synopsis = "[OPTIONS]",
     .summary = "create the tables and everything that belongs to them",
     .details =
         "With --extras an installation that is there already gets what it lacks of them, in "
         "a schema of their own: tables in which workers count what they settle, for the log "
         "policy failures and for cheaper statistics, tell each other how far they have claimed, "
         "and imports remember how far they have come, and functions that enqueue, for producers "
         "in any language "
         "(SELECT pgqueuer_c.enqueue('name', 'payload')).",
     .run = cmd_install,
     .connects = true,
     .names = true,
     .options = LIST(OPT_DURABILITY, OPT_CREATE_SCHEMA, OPT_EXTRAS)},
    {.name = "upgrade",
     .group = "Schema",
     .synopsis = "[--plan] [OPTIONS]",
     .summary = "bring the objects of an older release, Python's too, up to date",
     .details =
         "Compares the database with what install makes and changes what differs; workers may go "
         "on "
         "working. Each step is done by itself, under a lock timeout; indexes are built "
         "concurrently. What an interrupted upgrade has done stays done, and the next one goes on. "
         "--durability counts for tables that are missing.\n"
         "--plan prints a script for psql: every step with its reason, the lock that it takes, "
         "whether the table is rewritten, and how many rows that has by the server's estimate; "
         "with --json one document.",
     .run = cmd_upgrade,
     .connects = true,
     .names = true,
     .options = LIST(OPT_PLAN, OPT_JSON, OPT_EXTRAS, OPT_DURABILITY, OPT_WIDEN_ID, OPT_LOCK_TIMEOUT,
                     OPT_PATIENCE)},
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
     .options = LIST(OPT_DURABILITY, OPT_CREATE_SCHEMA, OPT_EXTRAS)},
    {.name = "sql upgrade",
     .group = "Schema",
     .synopsis = "[OPTIONS]",
     .summary = "print a script that upgrades any database; needs no connection",
     .details =
         "For a person or a migration tool to run, by psql for example, in one transaction or "
         "without. Every statement looks whether it is needed, so it suits every older release and "
         "does nothing the second time. Tables are locked while they are changed and while their "
         "indexes are built; upgrade does not keep a busy queue waiting.",
     .run = cmd_sql_upgrade,
     .names = true,
     .options = LIST(OPT_DURABILITY, OPT_EXTRAS, OPT_WIDEN_ID)},
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
                     OPT_COUNT, OPT_LOG_POLICY)},
    {.name = "import",
     .group = "Produce",
     .synopsis = "FILE|- [OPTIONS]",
     .summary = "enqueue a job for each line of a file or stream",
     .details =
         "A line is a JSON object with entrypoint, payload (a text, or any JSON value as it is "
         "written) or payload_base64, priority, headers, delay (seconds) or execute_after, "
         "dedupe_key; or a record of CSV, whose first line names the columns. Options stand in for "
         "what a line leaves out.\n"
         "The jobs go in by chunks of 10000. With the extras (install --extras) each chunk is "
         "committed together with its place in the file: the same command, started again after "
         "it was interrupted, goes on there, and each line is imported exactly once. A file that "
         "was imported to its end is refused with exit status 7, unless --again; what was "
         "appended to it since is imported.\n"
         "Exit status 1 when lines were rejected; the others are in.\n"
         "Example: pgqueuer import jobs.jsonl --entrypoint mail --rejects rejects.jsonl",
     .run = cmd_import,
     .connects = true,
     .names = true,
     .args_min = 1,
     .args_max = 1,
     .options =
         LIST(OPT_ENTRYPOINT, OPT_PRIORITY, OPT_DELAY, OPT_AT, OPT_HEADERS, OPT_ON_CONFLICT,
              OPT_LOG_POLICY, OPT_FORMAT, OPT_REJECTS, OPT_IMPORT_NAME, OPT_RESUME, OPT_AGAIN)},

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
     .args_max = PGQ_REQUEUE_IDS_MAX,
     .options = LIST(OPT_LOG_POLICY)},

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
