/* What is there: folder, lock, the running server, its DSN. */
#include "cli/dev.h"
#include "base/buffer.h"
#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

pgq_code dev_path(char path[DEV_PATH_BYTES], const char *folder, const char *name, pgq_error *err)
{
    int length = snprintf(path, DEV_PATH_BYTES, "%s/%s", folder, name);

    if (length > 0 && length < DEV_PATH_BYTES)
        return PGQ_OK;
    return error_set(err, PGQ_E_LIMIT, "the path is too long: %.100s...", folder);
}

bool dev_read_file(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t length;

    if (fd < 0)
        return false;
    length = read(fd, text, size - 1);
    (void)close(fd);
    if (length < 0)
        return false;
    text[length] = '\0';
    while (length > 0 && text[length - 1] == '\n')
        text[--length] = '\0';
    return true;
}

/* The server's user: ourselves, but for root whoever owns the server's folder, or one of the two
 * users that every system has. */
static pgq_code choose_user(dev *d, pgq_error *err)
{
    static const char *const names[] = {"postgres", "nobody"};
    const struct passwd *user = NULL;
    struct stat home;

    d->uid = geteuid();
    d->gid = getegid();
    d->drop = d->uid == 0;
    if (!d->drop)
        return PGQ_OK;
    if (lstat(d->home, &home) == 0 && S_ISDIR(home.st_mode) && home.st_uid != 0) {
        d->uid = home.st_uid;
        d->gid = home.st_gid;
        return PGQ_OK;
    }
    for (size_t i = 0; i < BASE_COUNT(names) && user == NULL; i++)
        user = getpwnam(names[i]);
    if (user == NULL) {
        (void)error_set(err, PGQ_E_UNSUPPORTED,
                        "PostgreSQL does not run as root, and there is no "
                        "user 'postgres' or 'nobody' to run it");
        error_hint(err, "run this command as an ordinary user");
        return PGQ_E_UNSUPPORTED;
    }
    d->uid = user->pw_uid;
    d->gid = user->pw_gid;
    return PGQ_OK;
}

/* Fills the paths and the user; makes nothing. */
static pgq_code settle_paths(dev *d, const char *folder, pgq_error *err)
{
    char whole[PATH_MAX], location[DEV_PATH_BYTES];
    pgq_code code;

    *d = (dev){.lock_fd = -1};
    if (realpath(folder, whole) == NULL) {
        code = error_set(err, PGQ_E_IO, "cannot use the folder: %s", strerror(errno));
        error_where(err, "%s", folder);
        return code;
    }
    code = dev_path(d->root, base_streq(whole, "/") ? "" : whole, DEV_FOLDER, err);
    if (code == PGQ_OK)
        code = dev_path(location, d->root, "location", err);
    if (code == PGQ_OK && (!dev_read_file(location, d->home, sizeof(d->home)) || d->home[0] != '/'))
        code = dev_path(d->home, d->root, "server", err);
    return code == PGQ_OK ? choose_user(d, err) : code;
}

pgq_code dev_look(dev *d, const char *folder, pgq_error *err)
{
    pgq_code code = settle_paths(d, folder, err);
    struct stat root;

    if (code != PGQ_OK)
        return code;
    if (lstat(d->root, &root) != 0 || !S_ISDIR(root.st_mode)) {
        (void)error_set(err, PGQ_E_NOT_FOUND, "this folder has no private PostgreSQL");
        error_where(err, "%s", d->root);
        error_hint(err, "'pgqueuer dev start' makes one");
        return PGQ_E_NOT_FOUND;
    }
    if (access(d->home, X_OK) != 0 && errno == EACCES) {
        (void)error_set(err, PGQ_E_STATE,
                        "the private PostgreSQL of this folder belongs to another "
                        "user");
        error_where(err, "%s", d->home);
        return PGQ_E_STATE;
    }
    dev_probe(d);
    return PGQ_OK;
}

static pgq_code folder_error(const dev *d, const char *what, pgq_error *err)
{
    pgq_code code = error_set(err, PGQ_E_IO, "cannot %s: %s", what, strerror(errno));

    error_where(err, "%s", d->root);
    if (errno == EACCES || errno == EPERM)
        error_hint(err,
                   "the folder belongs to another user; go to a folder of your own, or run the "
                   "command as that user");
    return code;
}

pgq_code dev_lock(dev *d, const char *folder, pgq_error *err)
{
    char path[DEV_PATH_BYTES];
    pgq_code code = settle_paths(d, folder, err);
    int taken;

    if (code != PGQ_OK)
        return code;
    if (mkdir(d->root, 0755) != 0 && errno != EEXIST)
        return folder_error(d, "make the folder", err);
    code = dev_path(path, d->root, "lock", err);
    if (code != PGQ_OK)
        return code;
    d->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (d->lock_fd < 0)
        return folder_error(d, "lock the folder", err);
    taken = flock(d->lock_fd, LOCK_EX | LOCK_NB);
    if (taken != 0 && errno == EWOULDBLOCK) {
        (void)fprintf(stderr, "pgqueuer: waiting for another 'pgqueuer dev' in this folder\n");
        do
            taken = flock(d->lock_fd, LOCK_EX);
        while (taken != 0 && errno == EINTR);
    }
    if (taken != 0) {
        code = folder_error(d, "lock the folder", err);
        dev_unlock(d);
        return code;
    }
    code = dev_path(path, d->root, ".gitignore", err);
    if (code == PGQ_OK && access(path, F_OK) != 0)
        code = dev_write_file(d, path, "*\n", DEV_EVERYBODY, err);
    if (code != PGQ_OK)
        dev_unlock(d);
    else
        dev_probe(d);
    return code;
}

void dev_unlock(dev *d)
{
    if (d->lock_fd >= 0)
        (void)close(d->lock_fd);
    d->lock_fd = -1;
}

pgq_code dev_write_file(const dev *d, const char *path, const char *text, dev_reader reader,
                        pgq_error *err)
{
    char temporary[DEV_PATH_BYTES];
    size_t length = strlen(text);
    pgq_code code = PGQ_OK;
    bool done;
    int fd;

    if (snprintf(temporary, sizeof(temporary), "%s.new", path) >= (int)sizeof(temporary))
        return error_set(err, PGQ_E_LIMIT, "the path is too long: %.100s...", path);
    (void)unlink(temporary);
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
              reader == DEV_EVERYBODY ? 0644 : 0600);
    done = fd >= 0 && write(fd, text, length) == (ssize_t)length &&
           (reader != DEV_SERVER || !d->drop || fchown(fd, d->uid, d->gid) == 0) && fsync(fd) == 0;
    if (fd >= 0)
        done = close(fd) == 0 && done;
    if (!done || rename(temporary, path) != 0) {
        code = error_set(err, PGQ_E_IO, "cannot write: %s", strerror(errno));
        error_where(err, "%s", path);
        (void)unlink(temporary);
    }
    return code;
}

/* Whether a process is the server of this data folder: a server's working directory is its data.
 * Where we may not look at that, the name of the program must do. */
static bool is_server(pid_t pid, const char *data)
{
    char link[64], cwd[PATH_MAX], whole[PATH_MAX];
    ssize_t length;

    if (kill(pid, 0) != 0 && errno != EPERM)
        return false;
    (void)snprintf(link, sizeof(link), "/proc/%ld/cwd", (long)pid);
    length = readlink(link, cwd, sizeof(cwd) - 1);
    if (length < 0 && errno == ENOENT)
        return access("/proc/self", F_OK) != 0; /* no /proc: believe the file */
    if (length < 0) {
        (void)snprintf(link, sizeof(link), "/proc/%ld/comm", (long)pid);
        return dev_read_file(link, cwd, sizeof(cwd)) && base_streq(cwd, "postgres");
    }
    cwd[length] = '\0';
    return realpath(data, whole) != NULL && base_streq(cwd, whole);
}

/* postmaster.pid: process, data, start time, port, socket folder, address, key, state. */
void dev_probe(dev *d)
{
    enum { LINE_PORT = 3, LINE_ADDRESS = 5, LINE_STATE = 7 };
    char path[DEV_PATH_BYTES], data[DEV_PATH_BYTES], text[DEV_PATH_BYTES * 2];
    char *line = text;

    d->pid = 0;
    d->port = 0;
    d->tcp = d->ready = false;
    if (dev_path(data, d->home, "data", NULL) != PGQ_OK ||
        dev_path(path, data, "postmaster.pid", NULL) != PGQ_OK ||
        !dev_read_file(path, text, sizeof(text)))
        return;
    d->pid = (pid_t)strtol(text, NULL, 10);
    if (d->pid <= 1 || !is_server(d->pid, data)) {
        d->pid = 0;
        return;
    }
    for (int i = 0; line != NULL; i++) {
        char *end = strchr(line, '\n');

        if (i == LINE_PORT)
            d->port = (int)strtol(line, NULL, 10);
        if (i == LINE_ADDRESS)
            d->tcp = line[0] != '\n' && line[0] != '\0';
        if (i == LINE_STATE)
            d->ready = strncmp(line, "ready", 5) == 0;
        line = end != NULL ? end + 1 : NULL;
    }
}

static void add_encoded(buffer *dsn, const char *text)
{
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     strchr("/-._~", c) != NULL;

        if (plain)
            buffer_add_char(dsn, *text);
        else
            buffer_add_format(dsn, "%%%02X", c);
    }
}

char *dev_dsn(const dev *d, const char *password)
{
    buffer dsn = BUFFER_INIT;

    if (password != NULL) {
        buffer_add_format(&dsn, "postgresql://" DEV_ROLE ":%s@127.0.0.1:%d/" DEV_DATABASE, password,
                          d->port);
    } else {
        buffer_add_text(&dsn, "postgresql://" DEV_ROLE "@/" DEV_DATABASE "?host=");
        add_encoded(&dsn, d->home);
        buffer_add_format(&dsn, "/run&port=%d", d->port);
    }
    return buffer_steal(&dsn);
}

pgq_code dev_password(const dev *d, char password[DEV_PASSWORD_BYTES], pgq_error *err)
{
    char path[DEV_PATH_BYTES];
    pgq_code code = dev_path(path, d->root, "password", err);

    if (code != PGQ_OK)
        return code;
    if (dev_read_file(path, password, DEV_PASSWORD_BYTES) &&
        strlen(password) == DEV_PASSWORD_BYTES - 1)
        return PGQ_OK;
    code = error_set(err, PGQ_E_IO, "cannot read the password: %s", strerror(errno));
    error_where(err, "%s", path);
    return code;
}

pgq_code dev_find_dsn(const char *folder, char **ret_dsn, pgq_error *err)
{
    char run[DEV_PATH_BYTES];
    dev d;

    *ret_dsn = NULL;
    if (dev_look(&d, folder, NULL) != PGQ_OK || d.pid == 0 ||
        dev_path(run, d.home, "run", NULL) != PGQ_OK || access(run, X_OK) != 0)
        return PGQ_OK;
    *ret_dsn = dev_dsn(&d, NULL);
    return *ret_dsn != NULL ? PGQ_OK : error_nomem(err);
}
