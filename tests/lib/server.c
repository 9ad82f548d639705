#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <pgqueuer/admin.h>

enum { START_SECONDS = 60, PATH_BYTES = 512 };

static struct {
    char directory[64];
    char bin[PATH_BYTES];
    pid_t guardian;
    int life; /* the guardian waits for its end */
    unsigned databases;
} server = {.life = -1};

static void give_up(const char *what, const char *detail) __attribute__((noreturn));
static void give_up(const char *what, const char *detail)
{
    printf("Bail out! %s: %s\n", what, detail);
    (void)fflush(stdout);
    exit(1); /* atexit stops the server */
}

/* ---- finding the server's programs ---- */

static bool has_server(const char *directory)
{
    char path[PATH_BYTES + 16];

    (void)snprintf(path, sizeof(path), "%s/initdb", directory);
    if (directory[0] == '\0' || access(path, X_OK) != 0)
        return false;
    (void)snprintf(server.bin, sizeof(server.bin), "%s", directory);
    return true;
}

static bool ask_pg_config(void)
{
    char line[PATH_BYTES] = "";
    FILE *out = popen("pg_config --bindir 2>/dev/null", "re");

    if (out == NULL)
        return false;
    if (fgets(line, sizeof(line), out) == NULL)
        line[0] = '\0';
    (void)pclose(out);
    line[strcspn(line, "\n")] = '\0';
    return has_server(line);
}

static bool look_in_usual_places(void)
{
    glob_t found;
    bool ok = false;

    if (glob("/usr/lib/postgresql/*/bin", 0, NULL, &found) != 0)
        return false;
    for (size_t i = found.gl_pathc; !ok && i > 0; i--)
        ok = has_server(found.gl_pathv[i - 1]);
    globfree(&found);
    return ok;
}

static bool look_in_path(void)
{
    const char *path = getenv("PATH");
    char item[PATH_BYTES];
    bool ok = false;

    while (!ok && path != NULL && *path != '\0') {
        size_t len = strcspn(path, ":");

        (void)snprintf(item, sizeof(item), "%.*s", (int)len, path);
        ok = has_server(item);
        path += len;
        path += *path == ':';
    }
    return ok;
}

static bool find_programs(void)
{
    const char *given = getenv("PGQUEUER_PG_BIN");

    if (given != NULL && given[0] != '\0') {
        if (!has_server(given))
            give_up("PGQUEUER_PG_BIN has no initdb", given);
        return true;
    }
    return ask_pg_config() || look_in_usual_places() || look_in_path();
}

/* ---- the guardian ---- */

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)kind;
    (void)where;
    (void)remove(path);
    return 0;
}

/* Starts a program of the server with its output in the log. */
static pid_t start_program(const char *const argv[])
{
    const char *full[32] = {NULL}; /* the programs look for each other beside their own path */
    char path[PATH_BYTES + 32];
    pid_t pid = fork();
    int log;

    if (pid != 0)
        return pid;
    for (size_t i = 0; argv[i] != NULL && i + 1 < sizeof(full) / sizeof(full[0]); i++)
        full[i] = argv[i];
    (void)snprintf(path, sizeof(path), "%s/log", server.directory);
    log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log >= 0) {
        (void)dup2(log, STDOUT_FILENO);
        (void)dup2(log, STDERR_FILENO);
    }
    (void)snprintf(path, sizeof(path), "%s/%s", server.bin, argv[0]);
    full[0] = path;
    (void)execv(path, (char *const *)full);
    _exit(127);
}

static pid_t start_postgres(void)
{
    char data[PATH_BYTES], sockets[PATH_BYTES];
    const char *const initdb[] = {"initdb", "-D", data,   "-U",         "postgres",  "-A",
                                  "trust",  "-E", "UTF8", "--locale=C", "--no-sync", NULL};
    const char *const postgres[] = {"postgres",
                                    "-D",
                                    data,
                                    "-c",
                                    sockets,
                                    "-c",
                                    "listen_addresses=",
                                    "-c",
                                    "fsync=off",
                                    "-c",
                                    "shared_buffers=32MB",
                                    "-c",
                                    "max_connections=60",
                                    "-c",
                                    "autovacuum=off",
                                    NULL};
    int status;

    (void)snprintf(data, sizeof(data), "%s/data", server.directory);
    (void)snprintf(sockets, sizeof(sockets), "unix_socket_directories=%s", server.directory);
    if (waitpid(start_program(initdb), &status, 0) < 0 || status != 0)
        return -1;
    return start_program(postgres);
}

/* A server refuses to run as root. */
static void become_unprivileged(void)
{
    const struct passwd *user = getpwnam("postgres");

    if (geteuid() != 0)
        return;
    if (user == NULL)
        user = getpwnam("nobody");
    if (user == NULL || chown(server.directory, user->pw_uid, user->pw_gid) != 0 ||
        setgroups(0, NULL) != 0 || setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0 ||
        chdir("/") != 0) /* the checkout may be where that user cannot go */
        _exit(1);
}

/* Runs the server until the other end of `life` is closed; `ready` hears of the start. */
static void guard(int life, int ready) __attribute__((noreturn));
static void guard(int life, int ready)
{
    struct pollfd wait = {.fd = life, .events = POLLIN};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    pid_t postgres;

    (void)setsid(); /* an interrupt of the tests must not keep us from cleaning up */
    (void)signal(SIGPIPE, SIG_IGN);
    for (int fd = 0; fd <= 2; fd++)
        (void)dup2(null, fd);
    become_unprivileged();
    postgres = start_postgres();
    if (postgres > 0) {
        if (write(ready, "+", 1) == 1) {
            while (poll(&wait, 1, -1) < 0 && errno == EINTR)
                continue;
        }
        (void)kill(postgres, SIGQUIT);
        (void)waitpid(postgres, NULL, 0);
        (void)nftw(server.directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    }
    (void)close(ready);
    while (poll(&wait, 1, -1) < 0 && errno == EINTR)
        continue; /* a failed start leaves the log to be read first */
    (void)nftw(server.directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    _exit(0);
}

static void start_guardian(void)
{
    int life[2], ready[2];
    char byte;

    if (pipe2(life, O_CLOEXEC) != 0 || pipe2(ready, O_CLOEXEC) != 0)
        give_up("pipe", strerror(errno));
    (void)fflush(NULL);
    server.guardian = fork();
    if (server.guardian < 0)
        give_up("fork", strerror(errno));
    if (server.guardian == 0) {
        (void)close(life[1]);
        (void)close(ready[0]);
        guard(life[0], ready[1]);
    }
    (void)close(life[0]);
    (void)close(ready[1]);
    server.life = life[1];
    if (read(ready[0], &byte, 1) != 1) {
        char command[PATH_BYTES];

        (void)snprintf(command, sizeof(command), "tail -n 20 '%s/log' | sed 's/^/# /'",
                       server.directory);
        (void)!system(command);
        give_up("the server did not start", server.bin);
    }
    (void)close(ready[0]);
}

/* ---- life ---- */

static void make_dsn(char *dsn, const char *name)
{
    (void)snprintf(dsn, SERVER_DSN_BYTES, "host=%s port=5432 user=postgres dbname=%s",
                   server.directory, name);
}

static PGconn *connect_to(const char *name)
{
    char dsn[SERVER_DSN_BYTES];
    PGconn *conn;

    make_dsn(dsn, name);
    conn = PQconnectdb(dsn);
    if (PQstatus(conn) != CONNECTION_OK)
        give_up("connect", PQerrorMessage(conn));
    return conn;
}

static void wait_for_server(void)
{
    char dsn[SERVER_DSN_BYTES];
    time_t deadline = time(NULL) + START_SECONDS;

    make_dsn(dsn, "postgres");
    while (PQping(dsn) != PQPING_OK) {
        if (time(NULL) > deadline)
            give_up("the server does not answer", dsn);
        (void)poll(NULL, 0, 10);
    }
}

static void make_template(void)
{
    PGconn *conn = connect_to("postgres");
    pgq_error err = PGQ_ERROR_INIT;
    database d = {.name = "pgq_template"};
    pgq_client *client;

    sql_run(conn, "CREATE DATABASE pgq_template");
    PQfinish(conn);
    make_dsn(d.dsn, d.name);
    client = database_client(&d);
    if (pgq_schema_install(client, NULL, &err) != PGQ_OK)
        give_up("install", err.message);
    (void)pgq_client_free(client);
}

bool server_start(void)
{
    const char *folder = getenv("TMPDIR");

    if (!find_programs()) {
        printf("1..0 # SKIP no PostgreSQL server is installed\n");
        return false;
    }
    /* a socket's path has at most 107 bytes */
    if (folder == NULL || folder[0] != '/' || strlen(folder) > 40)
        folder = "/tmp";
    (void)snprintf(server.directory, sizeof(server.directory), "%s/pgqc-XXXXXX", folder);
    if (mkdtemp(server.directory) == NULL)
        give_up("mkdtemp", strerror(errno));
    (void)atexit(server_stop);
    start_guardian();
    wait_for_server();
    make_template();
    return true;
}

void server_stop(void)
{
    if (server.life < 0)
        return;
    (void)close(server.life);
    server.life = -1;
    (void)waitpid(server.guardian, NULL, 0);
    (void)rmdir(server.directory);
}

const char *server_socket_directory(void)
{
    return server.directory;
}

/* ---- databases ---- */

void database_open(database *d)
{
    PGconn *conn = connect_to("postgres");

    (void)snprintf(d->name, sizeof(d->name), "test_%u", ++server.databases);
    make_dsn(d->dsn, d->name);
    sql_run(conn, "CREATE DATABASE %s TEMPLATE pgq_template", d->name);
    PQfinish(conn);
    d->sql = connect_to(d->name);
    sql_run(d->sql, "SET client_min_messages = warning");
}

void database_close(database *d)
{
    PGconn *conn;

    PQfinish(d->sql);
    d->sql = NULL;
    conn = connect_to("postgres");
    sql_run(conn, "DROP DATABASE %s WITH (FORCE)", d->name);
    PQfinish(conn);
}

pgq_client *database_client(const database *d)
{
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;
    pgq_error err = PGQ_ERROR_INIT;
    pgq_client *client;

    options.dsn = d->dsn;
    options.call_timeout_ms = 30000;
    if (pgq_client_open(&options, &client, &err) != PGQ_OK)
        give_up("client", err.message);
    return client;
}

int database_setup(void **state)
{
    database *d = calloc(1, sizeof(*d));

    if (d == NULL)
        return -1;
    database_open(d);
    *state = d;
    return 0;
}

int database_teardown(void **state)
{
    database_close(*state);
    free(*state);
    return 0;
}

/* ---- SQL ---- */

static PGresult *run(PGconn *conn, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));
static PGresult *run(PGconn *conn, const char *format, va_list args)
{
    char sql[4096]; /* and nothing allocated: the sweep counts that */
    int len = vsnprintf(sql, sizeof(sql), format, args);
    PGresult *result;

    if (len < 0 || (size_t)len >= sizeof(sql))
        give_up("too long", sql);
    result = PQexec(conn, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK) {
        printf("# %s\n", sql);
        give_up("SQL", PQerrorMessage(conn));
    }
    return result;
}

void sql_run(PGconn *conn, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    PQclear(run(conn, format, args));
    va_end(args);
}

static const char *first_field(PGresult *result)
{
    static char texts[2][8192];
    static unsigned turn;
    char *text = texts[turn++ % 2];

    (void)snprintf(text, sizeof(texts[0]), "%s",
                   PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return text;
}

const char *sql_text(PGconn *conn, const char *format, ...)
{
    const char *text;
    va_list args;

    va_start(args, format);
    text = first_field(run(conn, format, args));
    va_end(args);
    return text;
}

long long sql_number(PGconn *conn, const char *format, ...)
{
    const char *text;
    va_list args;

    va_start(args, format);
    text = first_field(run(conn, format, args));
    va_end(args);
    return strtoll(text, NULL, 10);
}

bool sql_wait(PGconn *conn, const char *wanted, const char *query)
{
    time_t deadline = time(NULL) + 10;

    while (strcmp(sql_text(conn, "%s", query), wanted) != 0) {
        if (time(NULL) > deadline)
            return false;
        (void)poll(NULL, 0, 5);
    }
    return true;
}
