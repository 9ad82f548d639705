/* Making the private server: its programs, its place, its data. */
#include "base/error.h"
#include "base/random.h"
#include "cli/dev.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOCKET_NAME "/run/.s.PGSQL.65535" /* the longest there can be */

enum { SOCKET_BYTES_MAX = 107, OUTPUT_BYTES = 512 };

/* Whether `folder` has the programs, of a version that fits (0: any that is new enough). */
static bool try_programs(dev *d, const char *folder, long major)
{
    static const char *const names[] = {"initdb", "pg_ctl", "postgres"};
    char path[DEV_PATH_BYTES], whole[PATH_MAX], output[OUTPUT_BYTES] = "";
    char *argv[] = {path, "--version", NULL};
    const char *number;
    long found;

    if (dev_path(path, folder, "postgres", NULL) != PGQ_OK || realpath(path, whole) == NULL)
        return false;
    *strrchr(whole, '/') = '\0'; /* links in PATH lead to the place where all programs are */
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        if (dev_path(path, whole, names[i], NULL) != PGQ_OK || access(path, X_OK) != 0)
            return false;
    }
    if (dev_spawn(d, argv, false, NULL, output, sizeof(output)) != 0)
        return false;
    number = strpbrk(output, "0123456789");
    found = number != NULL ? strtol(number, NULL, 10) : 0;
    if (major != 0 ? found != major : found < DEV_MAJOR_MIN)
        return false;
    if (snprintf(d->bin, sizeof(d->bin), "%s", whole) >= (int)sizeof(d->bin))
        return false;
    (void)snprintf(d->version, sizeof(d->version), "%.*s", (int)strcspn(number, " \n"), number);
    return true;
}

static bool try_path(dev *d, long major)
{
    const char *at = getenv("PATH");
    char folder[DEV_PATH_BYTES];

    while (at != NULL && *at != '\0') {
        size_t length = strcspn(at, ":");

        if (length > 0 && length < sizeof(folder) && at[0] == '/') {
            (void)snprintf(folder, sizeof(folder), "%.*s", (int)length, at);
            if (try_programs(d, folder, major))
                return true;
        }
        at += length;
        at += *at == ':' ? 1 : 0;
    }
    return false;
}

static bool try_pg_config(dev *d, long major)
{
    char folder[DEV_PATH_BYTES] = "";
    char *argv[] = {"/usr/bin/env", "pg_config", "--bindir", NULL};

    if (dev_spawn(d, argv, false, NULL, folder, sizeof(folder)) != 0)
        return false;
    folder[strcspn(folder, "\n")] = '\0';
    return folder[0] == '/' && try_programs(d, folder, major);
}

/* The places where distributions put them, the newest version first. */
static bool try_places(dev *d, long major)
{
    static const struct {
        const char *before, *after;
    } places[] = {
        {"/usr/lib/postgresql/", "/bin"}, {"/usr/pgsql-", "/bin"}, {"/usr/libexec/postgresql", ""}};
    enum { MAJOR_MAX = 40 };
    char folder[64];

    for (long m = MAJOR_MAX; m >= DEV_MAJOR_MIN; m--) {
        for (size_t i = 0; i < BASE_COUNT(places) && (major == 0 || m == major); i++) {
            (void)snprintf(folder, sizeof(folder), "%s%ld%s", places[i].before, m, places[i].after);
            if (try_programs(d, folder, major))
                return true;
        }
    }
    return try_programs(d, "/usr/local/pgsql/bin", major);
}

pgq_code dev_find_programs(dev *d, const char *data, pgq_error *err)
{
    const char *given = getenv("PGQUEUER_PG_BIN");
    char path[DEV_PATH_BYTES], text[16] = "";
    long major = 0;
    bool found;

    if (data != NULL && dev_path(path, data, "PG_VERSION", NULL) == PGQ_OK &&
        dev_read_file(path, text, sizeof(text)))
        major = strtol(text, NULL, 10);
    if (base_given(given))
        found = try_programs(d, given, major);
    else
        found = try_path(d, major) || try_pg_config(d, major) || try_places(d, major);
    if (found)
        return PGQ_OK;
    if (major != 0) {
        (void)error_set(err, PGQ_E_NOT_FOUND,
                        "the data is of PostgreSQL %ld, whose server programs "
                        "cannot be found",
                        major);
        error_hint(err, "install that version, or delete the data with 'pgqueuer dev reset'");
    } else {
        (void)error_set(err, PGQ_E_NOT_FOUND,
                        "cannot find the server programs of PostgreSQL %d or "
                        "newer (initdb, pg_ctl, postgres)",
                        DEV_MAJOR_MIN);
        error_hint(err, "install them (Debian, Ubuntu: apt install postgresql; Fedora: dnf install "
                        "postgresql-server), or name their folder in PGQUEUER_PG_BIN");
    }
    if (base_given(given))
        error_where(err, "PGQUEUER_PG_BIN=%s", given);
    return PGQ_E_NOT_FOUND;
}

static bool can_enter(const char *path)
{
    return chdir(path) == 0;
}

/* Whether the server can live in `root`: its user gets there, and the socket's path is short and
 * plain enough for sockaddr_un and for the configuration file. */
static bool root_is_usable(const dev *d)
{
    bool plain = strlen(d->root) + strlen("/server" SOCKET_NAME) <= SOCKET_BYTES_MAX;

    for (const char *at = d->root; *at != '\0'; at++)
        plain = plain && (unsigned char)*at >= ' ' && strchr("'\"\\,", *at) == NULL;
    return plain && (!d->drop || dev_as_server(d, can_enter, d->root));
}

/* Chooses a place in the system's temporary folder and writes it down before it is made, so that
 * it is found again whatever happens. */
static pgq_code choose_elsewhere(dev *d, pgq_error *err)
{
    const char *folder = getenv("TMPDIR");
    char path[DEV_PATH_BYTES], name[48];
    uint64_t number;
    pgq_code code = random_bytes(&number, sizeof(number));

    if (!base_given(folder) || folder[0] != '/' || strlen(folder) > 40 ||
        strpbrk(folder, "'\"\\,\n") != NULL || (d->drop && !dev_as_server(d, can_enter, folder)))
        folder = "/tmp";
    if (code != PGQ_OK)
        return error_set(err, code, "the kernel has no random numbers");
    (void)snprintf(name, sizeof(name), "pgqueuer-%016llx", (unsigned long long)number);
    code = dev_path(d->home, folder, name, err);
    if (code == PGQ_OK)
        code = dev_path(path, d->root, "location", err);
    return code == PGQ_OK ? dev_write_file(d, path, d->home, DEV_OURSELVES, err) : code;
}

/* Makes a folder of the server's user, or takes the one that is there if it is his. */
static pgq_code make_folder(const dev *d, const char *path, pgq_error *err)
{
    struct stat status;
    pgq_code code;
    bool done = mkdir(path, 0700) == 0 || errno == EEXIST;

    done = done && lstat(path, &status) == 0;
    if (done && d->drop && S_ISDIR(status.st_mode) && status.st_uid == geteuid())
        done = lchown(path, d->uid, d->gid) == 0 && lstat(path, &status) == 0;
    if (done && S_ISDIR(status.st_mode) && status.st_uid == d->uid)
        return PGQ_OK;
    code = error_set(err, PGQ_E_IO, "cannot make the folder: %s",
                     done ? "it is there, and somebody else's" : strerror(errno));
    error_where(err, "%s", path);
    return code;
}

static pgq_code make_home(dev *d, pgq_error *err)
{
    char own[DEV_PATH_BYTES], path[DEV_PATH_BYTES];
    pgq_code code = dev_path(own, d->root, "server", err);

    if (code == PGQ_OK && base_streq(own, d->home) && access(d->home, F_OK) != 0 &&
        !root_is_usable(d))
        code = choose_elsewhere(d, err);
    if (code == PGQ_OK && !base_streq(own, d->home) && access(d->home, F_OK) != 0)
        (void)fprintf(stderr,
                      "pgqueuer: the server cannot live in this folder; its data is in %s\n",
                      d->home);
    if (code == PGQ_OK)
        code = make_folder(d, d->home, err);
    if (code == PGQ_OK)
        code = dev_path(path, d->home, "run", err);
    return code == PGQ_OK ? make_folder(d, path, err) : code;
}

/* The password of the role: the stored one, or a new one. */
static pgq_code make_password(const dev *d, char password[DEV_PASSWORD_BYTES], pgq_error *err)
{
    unsigned char bytes[(DEV_PASSWORD_BYTES - 1) / 2];
    char path[DEV_PATH_BYTES];
    pgq_code code;

    if (dev_password(d, password, NULL) == PGQ_OK)
        return PGQ_OK;
    if (random_bytes(bytes, sizeof(bytes)) != PGQ_OK)
        return error_set(err, PGQ_E_IO, "the kernel has no random numbers");
    for (size_t i = 0; i < sizeof(bytes); i++)
        (void)snprintf(password + 2 * i, 3, "%02x", bytes[i]);
    code = dev_path(path, d->root, "password", err);
    return code == PGQ_OK ? dev_write_file(d, path, password, DEV_OURSELVES, err) : code;
}

static pgq_code make_failed(const dev *d, const char *what, int status, pgq_error *err)
{
    dev_show_log(d);
    (void)error_set(err, PGQ_E_IO, "%s failed with status %d", what, status);
    error_where(err, "%s", d->home);
    return PGQ_E_IO;
}

/* initdb into `fresh`, with the role and the database. */
static pgq_code make_data(dev *d, const char *fresh, const char *password_file, pgq_error *err)
{
    char initdb[DEV_PATH_BYTES], postgres[DEV_PATH_BYTES], password_option[DEV_PATH_BYTES + 16];
    char *init[] = {initdb,
                    ("--username=" DEV_ROLE),
                    "--auth-local=trust",
                    "--auth-host=scram-sha-256",
                    password_option,
                    "--no-locale",
                    "--encoding=UTF8",
                    "-D",
                    (char *)(uintptr_t)fresh,
                    NULL};
    char *single[] = {
        postgres,   "--single", "-D", (char *)(uintptr_t)fresh, "-c", "log_min_messages=error",
        "postgres", NULL};
    pgq_code code = dev_path(initdb, d->bin, "initdb", err);
    int status;

    if (code == PGQ_OK)
        code = dev_path(postgres, d->bin, "postgres", err);
    if (code != PGQ_OK)
        return code;
    (void)snprintf(password_option, sizeof(password_option), "--pwfile=%s", password_file);
    status = dev_spawn(d, init, true, NULL, NULL, 0);
    if (status != 0)
        return make_failed(d, "initdb", status, err);
    status = dev_spawn(d, single, true, "CREATE DATABASE " DEV_DATABASE "\n", NULL, 0);
    return status == 0 ? PGQ_OK : make_failed(d, "making the database", status, err);
}

pgq_code dev_make(dev *d, pgq_error *err)
{
    char data[DEV_PATH_BYTES], fresh[DEV_PATH_BYTES], password_file[DEV_PATH_BYTES];
    char password[DEV_PASSWORD_BYTES], name[48];
    pgq_code code = make_home(d, err);

    if (code == PGQ_OK)
        code = dev_path(data, d->home, "data", err);
    if (code != PGQ_OK || access(data, F_OK) == 0)
        return code;
    /* The children of a start that was killed may write to its folder a moment longer, so this one
     * has a name of its own, and what cannot be removed now is removed another time. */
    (void)dev_as_server(d, dev_remove_fresh, d->home);
    (void)snprintf(name, sizeof(name), DEV_FRESH "%ld", (long)getpid());
    code = dev_path(fresh, d->home, name, err);
    if (code == PGQ_OK)
        code = dev_path(password_file, d->home, "password", err);
    if (code == PGQ_OK)
        code = make_password(d, password, err);
    if (code == PGQ_OK)
        code = dev_write_file(d, password_file, password, DEV_SERVER, err);
    if (code == PGQ_OK)
        code = make_data(d, fresh, password_file, err);
    (void)unlink(password_file);
    if (code == PGQ_OK && rename(fresh, data) != 0)
        code = error_set(err, PGQ_E_IO, "cannot rename %s: %s", fresh, strerror(errno));
    return code;
}
