/* dev: the commands around the private server. */
#include "base/error.h"
#include "cli/cli.h"
#include "cli/dev.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Prints how to reach the running server. */
static pgq_code print_dsn(const dev *d, pgq_error *err)
{
    char *dsn = dev_dsn(d, NULL);

    if (dsn == NULL)
        return error_nomem(err);
    (void)printf("DSN: %s\n", dsn);
    if (d->tcp)
        (void)printf("TCP: 127.0.0.1:%d ('pgqueuer dev status --show-password' has the DSN)\n",
                     d->port);
    free(dsn);
    return PGQ_OK;
}

static pgq_code start_and_say(const cli *c, dev *d, pgq_error *err)
{
    bool found = false;
    pgq_code code = dev_start(d, (int)cli_number(c, OPT_SERVER_PORT), &found, err);

    if (code != PGQ_OK)
        return code;
    if (found)
        (void)printf("PostgreSQL runs already (process %ld).\n", (long)d->pid);
    else
        (void)printf("Started PostgreSQL %s in %s (process %ld).\n", d->version, DEV_FOLDER,
                     (long)d->pid);
    return print_dsn(d, err);
}

int cmd_dev_start(cli *c)
{
    pgq_error err = PGQ_ERROR_INIT;
    dev d;
    pgq_code code = dev_lock(&d, ".", &err);

    if (code == PGQ_OK)
        code = start_and_say(c, &d, &err);
    if (code == PGQ_OK)
        (void)puts("Next: pgqueuer install; pgqueuer queue hello world; pgqueuer dev psql");
    dev_unlock(&d);
    return code == PGQ_OK ? EXIT_DONE : cli_report(&err);
}

int cmd_dev_stop(cli *c)
{
    pgq_error err = PGQ_ERROR_INIT;
    bool running;
    dev d;
    pgq_code code = dev_look(&d, ".", &err);

    (void)c;
    if (code == PGQ_E_NOT_FOUND) {
        (void)puts("No PostgreSQL runs here.");
        return EXIT_DONE;
    }
    if (code == PGQ_OK)
        code = dev_lock(&d, ".", &err);
    running = code == PGQ_OK && d.pid != 0;
    if (code == PGQ_OK)
        code = dev_stop(&d, &err);
    if (code == PGQ_OK)
        (void)puts(running ? "Stopped PostgreSQL." : "No PostgreSQL runs here.");
    dev_unlock(&d);
    return code == PGQ_OK ? EXIT_DONE : cli_report(&err);
}

static pgq_code print_password_dsn(const dev *d, pgq_error *err)
{
    char password[DEV_PASSWORD_BYTES], *dsn;
    pgq_code code;

    if (!d->tcp) {
        (void)error_set(err, PGQ_E_STATE,
                        "the server listens on its socket only, which needs no "
                        "password");
        error_hint(err, "'pgqueuer dev stop', then 'pgqueuer dev start --port PORT'");
        return PGQ_E_STATE;
    }
    code = dev_password(d, password, err);
    if (code != PGQ_OK)
        return code;
    dsn = dev_dsn(d, password);
    if (dsn == NULL)
        return error_nomem(err);
    (void)printf("TCP DSN: %s\n", dsn);
    free(dsn);
    return PGQ_OK;
}

int cmd_dev_status(cli *c)
{
    pgq_error err = PGQ_ERROR_INIT;
    char data[DEV_PATH_BYTES], version[8] = "?", path[DEV_PATH_BYTES];
    dev d;
    pgq_code code = dev_look(&d, ".", &err);

    if (code == PGQ_E_NOT_FOUND || (code == PGQ_OK && d.pid == 0)) {
        (void)puts("stopped");
        return EXIT_FAILED;
    }
    if (code == PGQ_OK)
        code = dev_path(data, d.home, "data", &err);
    if (code == PGQ_OK)
        code = dev_path(path, data, "PG_VERSION", &err);
    if (code != PGQ_OK)
        return cli_report(&err);
    (void)dev_read_file(path, version, sizeof(version));
    (void)printf("%s: PostgreSQL %s, process %ld\n", d.ready ? "running" : "starting", version,
                 (long)d.pid);
    code = print_dsn(&d, &err);
    (void)printf("data: %s\nlog: %s/server.log\n", data, d.root);
    if (code == PGQ_OK && cli_flag(c, OPT_SHOW_PASSWORD))
        code = print_password_dsn(&d, &err);
    return code == PGQ_OK ? EXIT_DONE : cli_report(&err);
}

int cmd_dev_psql(cli *c)
{
    pgq_error err = PGQ_ERROR_INIT;
    char path[DEV_PATH_BYTES], data[DEV_PATH_BYTES];
    char **argv = NULL, *dsn = NULL;
    dev d;
    pgq_code code = dev_look(&d, ".", &err);

    if (code == PGQ_OK && d.pid == 0) {
        code = error_set(&err, PGQ_E_STATE, "the private PostgreSQL of this folder is stopped");
        error_hint(&err, "'pgqueuer dev start' starts it");
    }
    if (code != PGQ_OK)
        return cli_report(&err);
    argv = calloc(c->rest_count + 4, sizeof(*argv));
    dsn = dev_dsn(&d, NULL);
    if (argv == NULL || dsn == NULL) {
        free(argv);
        free(dsn);
        (void)error_nomem(&err);
        return cli_report(&err);
    }
    argv[0] = "psql";
    argv[1] = "-d";
    argv[2] = dsn;
    memcpy(argv + 3, c->rest, c->rest_count * sizeof(*argv));
    (void)fflush(stdout);
    if (dev_path(data, d.home, "data", NULL) == PGQ_OK &&
        dev_find_programs(&d, data, NULL) == PGQ_OK &&
        dev_path(path, d.bin, "psql", NULL) == PGQ_OK && access(path, X_OK) == 0)
        (void)execv(path, argv);
    (void)execvp("psql", argv);
    (void)error_set(&err, PGQ_E_NOT_FOUND, "cannot start psql: %s", strerror(errno));
    error_hint(&err,
               "install the PostgreSQL client (Debian, Ubuntu: apt install postgresql-client)");
    free(argv);
    free(dsn);
    return cli_report(&err);
}

int cmd_dev_reset(cli *c)
{
    pgq_error err = PGQ_ERROR_INIT;
    dev d;
    pgq_code code;

    if (!cli_flag(c, OPT_YES) && !isatty(STDIN_FILENO))
        return cli_usage(c->command, "this deletes all data; without a terminal it needs --yes");
    if (!cli_flag(c, OPT_YES) &&
        !cli_confirm("Delete all data of the private PostgreSQL in " DEV_FOLDER "?")) {
        (void)fputs("Nothing was deleted.\n", stderr);
        return EXIT_FAILED;
    }
    code = dev_lock(&d, ".", &err);
    if (code == PGQ_OK)
        code = dev_stop(&d, &err);
    if (code == PGQ_OK)
        code = dev_delete(&d, &err);
    if (code == PGQ_OK)
        code = start_and_say(c, &d, &err);
    dev_unlock(&d);
    return code == PGQ_OK ? EXIT_DONE : cli_report(&err);
}
