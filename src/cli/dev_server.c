/* Starting, stopping and deleting the private server. */
#include "base/clock.h"
#include "base/error.h"
#include "cli/dev.h"

#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define START_SECONDS "60"
#define READY_US ((int64_t)60 * 1000000)

enum { SOCKET_PORT = 5432, POLL_MS = 50, CONFIGURATION_BYTES = DEV_PATH_BYTES + 1024 };

/* The whole configuration, small and for development; fsync stays on, it is a real server. */
static pgq_code write_configuration(const dev *d, const char *data, int tcp_port, pgq_error *err)
{
    char path[DEV_PATH_BYTES], text[CONFIGURATION_BYTES];
    pgq_code code = dev_path(path, data, "postgresql.conf", err);

    if (code != PGQ_OK)
        return code;
    if (snprintf(text, sizeof(text),
                 "# Written by 'pgqueuer dev start' at every start.\n"
                 "listen_addresses = '%s'\n"
                 "port = %d\n"
                 "unix_socket_directories = '%s/run'\n"
                 "password_encryption = scram-sha-256\n"
                 "max_connections = 100\n"
                 "shared_buffers = 64MB\n"
                 "max_wal_size = 512MB\n"
                 "timezone = 'UTC'\n"
                 "log_timezone = 'UTC'\n"
                 "lc_messages = 'C'\n"
                 "logging_collector = off\n",
                 tcp_port != 0 ? "127.0.0.1" : "", tcp_port != 0 ? tcp_port : SOCKET_PORT,
                 d->home) >= (int)sizeof(text))
        return error_set(err, PGQ_E_LIMIT, "the path is too long: %.100s...", d->home);
    return dev_write_file(d, path, text, DEV_SERVER, err);
}

static bool remove_file(const char *path)
{
    return unlink(path) == 0 || errno == ENOENT;
}

static pgq_code wait_ready(dev *d, pgq_error *err)
{
    int64_t deadline = clock_monotonic_us() + READY_US;

    for (;;) {
        dev_probe(d);
        if (d->ready)
            return PGQ_OK;
        if (d->pid == 0 || clock_monotonic_us() > deadline)
            break;
        (void)poll(NULL, 0, POLL_MS);
    }
    dev_show_log(d);
    return d->pid == 0
               ? error_set(err, PGQ_E_IO, "PostgreSQL did not start")
               : error_set(err, PGQ_E_TIMEOUT,
                           "PostgreSQL runs, but is not ready after " START_SECONDS " seconds");
}

static pgq_code start_server(dev *d, const char *data, int tcp_port, pgq_error *err)
{
    char pg_ctl[DEV_PATH_BYTES], pid_file[DEV_PATH_BYTES];
    char *argv[] = {pg_ctl, "start", "-w", "-s", "-t", START_SECONDS, "-D", (char *)(uintptr_t)data,
                    NULL};
    pgq_code code = dev_path(pg_ctl, d->bin, "pg_ctl", err);

    if (code == PGQ_OK)
        code = dev_path(pid_file, data, "postmaster.pid", err);
    if (code == PGQ_OK)
        code = write_configuration(d, data, tcp_port, err);
    if (code != PGQ_OK)
        return code;
    /* Nothing runs here: a file that a killed server left may name a process that has the number
     * by chance, and PostgreSQL would refuse to start. */
    if (!dev_as_server(d, remove_file, pid_file))
        return error_set(err, PGQ_E_IO, "cannot remove %s", pid_file);
    (void)dev_spawn(d, argv, true, NULL, NULL, 0); /* the probe says whether it worked, and more */
    return wait_ready(d, err);
}

pgq_code dev_start(dev *d, int tcp_port, bool *ret_found, pgq_error *err)
{
    char data[DEV_PATH_BYTES];
    pgq_code code;

    *ret_found = d->pid != 0;
    if (d->pid != 0) {
        code = wait_ready(d, err);
        if (code == PGQ_OK && tcp_port != 0 && (!d->tcp || d->port != tcp_port)) {
            code = error_set(err, PGQ_E_STATE, "PostgreSQL runs already, and not on port %d",
                             tcp_port);
            error_hint(err, "'pgqueuer dev stop', then start it again");
        }
        return code;
    }
    code = dev_path(data, d->home, "data", err);
    if (code == PGQ_OK)
        code = dev_find_programs(d, data, err);
    if (code == PGQ_OK)
        code = dev_make(d, err);
    if (code == PGQ_OK)
        code = dev_path(data, d->home, "data", err); /* dev_make may have moved */
    return code == PGQ_OK ? start_server(d, data, tcp_port, err) : code;
}

pgq_code dev_stop(dev *d, pgq_error *err)
{
    char pg_ctl[DEV_PATH_BYTES], data[DEV_PATH_BYTES];
    char *argv[] = {pg_ctl, "stop",        "-m", "fast", "-w", "-s",
                    "-t",   START_SECONDS, "-D", data,   NULL};
    pgq_code code;

    if (d->pid == 0)
        return PGQ_OK;
    code = dev_path(data, d->home, "data", err);
    if (code == PGQ_OK)
        code = dev_find_programs(d, data, err);
    if (code == PGQ_OK)
        code = dev_path(pg_ctl, d->bin, "pg_ctl", err);
    if (code != PGQ_OK)
        return code;
    (void)dev_spawn(d, argv, true, NULL, NULL, 0);
    dev_probe(d);
    if (d->pid == 0)
        return PGQ_OK;
    dev_show_log(d);
    code = error_set(err, PGQ_E_TIMEOUT, "PostgreSQL (process %ld) does not stop", (long)d->pid);
    error_where(err, "%s", data);
    return code;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)walk;
    return type == FTW_DP ? rmdir(path) : unlink(path);
}

bool dev_remove_tree(const char *path)
{
    enum { DESCRIPTORS = 16 };

    if (access(path, F_OK) != 0)
        return errno == ENOENT;
    return nftw(path, remove_entry, DESCRIPTORS, FTW_DEPTH | FTW_PHYS) == 0;
}

pgq_code dev_delete(dev *d, pgq_error *err)
{
    static const char *const names[] = {"data", "data.new", "run", "password"};
    static const char *const own_names[] = {"password", "location"};
    char path[DEV_PATH_BYTES];

    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        pgq_code code = dev_path(path, d->home, names[i], err);

        if (code == PGQ_OK && !dev_as_server(d, dev_remove_tree, path))
            code = error_set(err, PGQ_E_IO, "cannot delete %s", path);
        if (code != PGQ_OK)
            return code;
    }
    if (rmdir(d->home) != 0 && errno != ENOENT)
        return error_set(err, PGQ_E_IO, "cannot delete %.300s: %s", d->home, strerror(errno));
    for (size_t i = 0; i < BASE_COUNT(own_names); i++) {
        if (dev_path(path, d->root, own_names[i], NULL) == PGQ_OK)
            (void)remove_file(path);
    }
    return dev_path(d->home, d->root, "server", err);
}
