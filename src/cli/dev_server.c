/* Starting, stopping and deleting the private server. */
#include "base/clock.h"
#include "base/error.h"
#include "cli/dev.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
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

/* Puts a number that no process has into the file of a killed server. The old number may by now be
 * another process's, or that of a zombie, and PostgreSQL would refuse to start. The rest of the
 * file stays: from it PostgreSQL sees whether children of the killed server still use its memory.
 */
static bool forget_process(const char *path)
{
    static const char nobody[] = "99999999"; /* above the kernel's largest */
    char text[DEV_PATH_BYTES * 2], fresh[DEV_PATH_BYTES];
    const char *rest;
    FILE *file;
    bool done;

    if (!dev_read_file(path, text, sizeof(text)))
        return errno == ENOENT;
    rest = strchr(text, '\n');
    if (snprintf(fresh, sizeof(fresh), "%s.new", path) >= (int)sizeof(fresh) || rest == NULL)
        return remove_file(path);
    file = fopen(fresh, "we");
    if (file == NULL)
        return false;
    done = fprintf(file, "%s%s\n", nobody, rest) > 0;
    return fclose(file) == 0 && done && rename(fresh, path) == 0;
}

/* Clears what a killed server left, as far as PostgreSQL would stumble over it. */
static pgq_code forget_server(const dev *d, const char *data, pgq_error *err)
{
    char path[DEV_PATH_BYTES], lock[64];
    pgq_code code = dev_path(path, data, "postmaster.pid", err);

    if (code == PGQ_OK && !dev_as_server(d, forget_process, path))
        code = error_set(err, PGQ_E_IO, "cannot mend %s", path);
    (void)snprintf(lock, sizeof(lock), "run/.s.PGSQL.%d.lock", d->port);
    if (code == PGQ_OK)
        code = dev_path(path, d->home, lock, err);
    if (code == PGQ_OK && !dev_as_server(d, remove_file, path))
        code = error_set(err, PGQ_E_IO, "cannot remove %s", path);
    return code;
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
    if (d->pid == 0)
        (void)error_set(err, PGQ_E_IO, "PostgreSQL did not start");
    else
        (void)error_set(err, PGQ_E_TIMEOUT,
                        "PostgreSQL runs, but is not ready after " START_SECONDS " seconds");
    error_where(err, "%s/server.log", d->root);
    return d->pid == 0 ? PGQ_E_IO : PGQ_E_TIMEOUT;
}

static pgq_code start_server(dev *d, const char *data, int tcp_port, pgq_error *err)
{
    char pg_ctl[DEV_PATH_BYTES];
    char *argv[] = {pg_ctl, "start", "-w", "-s", "-t", START_SECONDS, "-D", (char *)(uintptr_t)data,
                    NULL};
    pgq_code code = dev_path(pg_ctl, d->bin, "pg_ctl", err);

    d->port = tcp_port != 0 ? tcp_port : SOCKET_PORT;
    if (code == PGQ_OK)
        code = write_configuration(d, data, tcp_port, err);
    if (code == PGQ_OK)
        code = forget_server(d, data, err);
    if (code != PGQ_OK)
        return code;
    (void)dev_spawn(d, argv, true, NULL, NULL, 0); /* the probe says whether it worked, and more */
    return wait_ready(d, err);
}

/* Whether somebody listens on the socket. A server that was killed a moment ago looks alive in
 * every other way. */
static bool answers(const dev *d)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool connected;

    if (fd < 0 || snprintf(address.sun_path, sizeof(address.sun_path), "%s/run/.s.PGSQL.%d",
                           d->home, d->port) >= (int)sizeof(address.sun_path)) {
        if (fd >= 0)
            (void)close(fd);
        return false;
    }
    connected = connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
    (void)close(fd);
    return connected;
}

/* Waits until a running server is ready, or a dying one is gone. */
static pgq_code await_found(dev *d, pgq_error *err)
{
    int64_t deadline = clock_monotonic_us() + READY_US;

    while (d->pid != 0 && !(d->ready && answers(d)) && clock_monotonic_us() < deadline) {
        (void)poll(NULL, 0, POLL_MS);
        dev_probe(d);
    }
    if (d->pid == 0 || answers(d))
        return PGQ_OK;
    return error_set(err, PGQ_E_TIMEOUT, "PostgreSQL (process %ld) runs, but does not answer",
                     (long)d->pid);
}

pgq_code dev_start(dev *d, int tcp_port, bool *ret_found, pgq_error *err)
{
    char data[DEV_PATH_BYTES];
    pgq_code code = await_found(d, err);

    *ret_found = d->pid != 0;
    if (code != PGQ_OK)
        return code;
    if (d->pid != 0) {
        if (tcp_port != 0 && (!d->tcp || d->port != tcp_port)) {
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

static bool remove_tree(const char *path)
{
    enum { DESCRIPTORS = 16 };

    return nftw(path, remove_entry, DESCRIPTORS, FTW_DEPTH | FTW_PHYS) == 0;
}

/* Removes the entries of a folder whose names begin with `prefix`. */
static bool remove_inside(const char *folder, const char *prefix)
{
    DIR *entries = opendir(folder);
    const struct dirent *entry;
    char path[DEV_PATH_BYTES];
    bool done = true;

    if (entries == NULL)
        return errno == ENOENT;
    while ((entry = readdir(entries)) != NULL) {
        if (base_streq(entry->d_name, ".") || base_streq(entry->d_name, "..") ||
            strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
            continue;
        done = dev_path(path, folder, entry->d_name, NULL) == PGQ_OK && remove_tree(path) && done;
    }
    (void)closedir(entries);
    return done;
}

bool dev_remove_all(const char *home)
{
    return remove_inside(home, "");
}

bool dev_remove_fresh(const char *home)
{
    return remove_inside(home, DEV_FRESH);
}

pgq_code dev_delete(dev *d, pgq_error *err)
{
    static const char *const names[] = {"password", "location"};
    char path[DEV_PATH_BYTES];
    pgq_code code;

    if (!dev_as_server(d, dev_remove_all, d->home) || (rmdir(d->home) != 0 && errno != ENOENT)) {
        code = error_set(err, PGQ_E_IO, "cannot delete the data");
        error_where(err, "%s", d->home);
        return code;
    }
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        if (dev_path(path, d->root, names[i], NULL) == PGQ_OK)
            (void)remove_file(path);
    }
    return dev_path(d->home, d->root, "server", err);
}
