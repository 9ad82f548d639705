#include "cli/demo.h"
#include "base/error.h"
#include "base/utf8.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX ((int64_t)64 * 1024 * 1024)
#define ALL_BYTES_MAX ((int64_t)1024 * 1024 * 1024) /* a demo should end soon */

enum { FILES_MAX = 2000, DEPTH_MAX = 16, CHUNK_BYTES = 65536, NUMBER_BYTES = 24 };

static pgq_code add_file(demo *d, const char *path, const struct stat *status, pgq_error *err)
{
    demo_file *file = &d->files[d->count];

    file->path = arena_strdup(&d->memory, path);
    if (file->path == NULL)
        return error_nomem(err);
    file->bytes = status->st_size;
    d->bytes += file->bytes;
    d->count++;
    return PGQ_OK;
}

static pgq_code collect(demo *d, const char *folder, int depth, pgq_error *err)
{
    DIR *entries = opendir(folder);
    const struct dirent *entry;
    char path[PATH_MAX];
    struct stat status;
    pgq_code code = PGQ_OK;

    if (entries == NULL)
        return PGQ_OK; /* what cannot be read is left out, as hidden files are */
    while (code == PGQ_OK && !d->cut && (entry = readdir(entries)) != NULL) {
        if (entry->d_name[0] == '.' || !utf8_valid(entry->d_name, strlen(entry->d_name)) ||
            snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name) >= (int)sizeof(path) ||
            lstat(path, &status) != 0)
            continue;
        if (S_ISDIR(status.st_mode) && depth < DEPTH_MAX)
            code = collect(d, path, depth + 1, err);
        else if (!S_ISREG(status.st_mode) || status.st_size > FILE_BYTES_MAX)
            continue;
        else if (d->count == FILES_MAX || d->bytes + status.st_size > ALL_BYTES_MAX)
            d->cut = true;
        else
            code = add_file(d, path, &status, err);
    }
    (void)closedir(entries);
    return code;
}

pgq_code demo_collect(demo *d, const char *folder, pgq_error *err)
{
    char whole[PATH_MAX];
    struct stat status;
    pgq_code code = PGQ_OK;

    if (realpath(folder, whole) == NULL || stat(whole, &status) != 0)
        code = error_set(err, PGQ_E_NOT_FOUND, "cannot use the folder: %s", strerror(errno));
    else if (!S_ISDIR(status.st_mode))
        code = error_set(err, PGQ_E_NOT_FOUND, "this is not a folder");
    else if (!utf8_valid(whole, strlen(whole)))
        code = error_set(err, PGQ_E_INVALID, "the name of the folder is not UTF-8");
    if (code == PGQ_OK) {
        d->files = arena_array(&d->memory, FILES_MAX, sizeof(*d->files));
        code = d->files != NULL ? collect(d, whole, 0, err) : error_nomem(err);
    }
    if (code == PGQ_OK && d->count == 0)
        code = error_set(err, PGQ_E_NOT_FOUND, "the folder has no files that can be read");
    if (code != PGQ_OK)
        error_where(err, "%s", folder);
    return code;
}

void demo_release(demo *d)
{
    arena_release(&d->memory);
    d->files = NULL;
    d->count = 0;
}

pgq_code demo_sql_error(PGconn *conn, const char *what, pgq_error *err)
{
    const char *message = PQerrorMessage(conn);

    (void)error_set(err, PGQ_E_DATABASE, "%.*s", (int)strcspn(message, "\n"), message);
    error_where(err, "%s", what);
    return PGQ_E_DATABASE;
}

static pgq_code execute(PGconn *conn, const char *sql, pgq_error *err)
{
    PGresult *result = PQexec(conn, sql);
    bool done = PQresultStatus(result) == PGRES_COMMAND_OK;

    PQclear(result);
    return done ? PGQ_OK : demo_sql_error(conn, sql, err);
}

/* Inserts one row; its id, as text, becomes the payload of its job. */
static pgq_code insert_row(PGconn *conn, const demo_file *file, char id[NUMBER_BYTES],
                           pgq_error *err)
{
    char bytes[NUMBER_BYTES];
    const char *values[] = {file->path, bytes};
    PGresult *result;
    pgq_code code = PGQ_OK;

    (void)snprintf(bytes, sizeof(bytes), "%" PRId64, file->bytes);
    result = PQexecPrepared(conn, "demo_insert", BASE_COUNT(values), values, NULL, NULL, 0);
    if (PQresultStatus(result) == PGRES_TUPLES_OK)
        (void)snprintf(id, NUMBER_BYTES, "%s", PQgetvalue(result, 0, 0));
    else
        code = demo_sql_error(conn, "INSERT INTO demo_files", err);
    PQclear(result);
    return code;
}

static pgq_code insert_rows(demo *d, PGconn *conn, pgq_new_job *jobs, char (*ids)[NUMBER_BYTES],
                            pgq_error *err)
{
    PGresult *result = PQprepare(conn, "demo_insert",
                                 "INSERT INTO demo_files (path, bytes) VALUES ($1, $2) "
                                 "RETURNING id",
                                 0, NULL);
    pgq_code code =
        PQresultStatus(result) == PGRES_COMMAND_OK ? PGQ_OK : demo_sql_error(conn, "PREPARE", err);

    PQclear(result);
    for (size_t i = 0; code == PGQ_OK && i < d->count; i++) {
        jobs[i] = (pgq_new_job)PGQ_NEW_JOB_INIT;
        code = insert_row(conn, &d->files[i], ids[i], err);
        jobs[i].entrypoint = DEMO_ENTRYPOINT;
        jobs[i].payload = (pgq_bytes){ids[i], strlen(ids[i])};
    }
    return code;
}

pgq_code demo_enqueue(demo *d, PGconn *conn, pgq_error *err)
{
    pgq_new_job *jobs = calloc(d->count, sizeof(*jobs));
    char(*texts)[NUMBER_BYTES] = calloc(d->count, sizeof(*texts));
    int64_t *ids = calloc(d->count, sizeof(*ids));
    pgq_code code;

    if (jobs == NULL || texts == NULL || ids == NULL) {
        free(jobs);
        free(texts);
        free(ids);
        return error_nomem(err);
    }
    code = execute(conn, "BEGIN", err);
    if (code == PGQ_OK)
        code = execute(conn, "SET LOCAL client_min_messages = warning", err);
    if (code == PGQ_OK)
        code = execute(conn, "DROP TABLE IF EXISTS demo_files", err);
    if (code == PGQ_OK)
        code = execute(conn,
                       "CREATE TABLE demo_files (id bigserial PRIMARY KEY, path text NOT NULL, "
                       "bytes bigint NOT NULL, sha256 text)",
                       err);
    if (code == PGQ_OK)
        code = insert_rows(d, conn, jobs, texts, err);
    if (code == PGQ_OK)
        code = pgq_enqueue_on(conn, NULL, jobs, d->count, PGQ_ON_CONFLICT_RAISE, ids, err);
    if (code == PGQ_OK)
        code = execute(conn, "COMMIT", err);
    if (code == PGQ_OK) {
        d->first_id = ids[0];
        d->last_id = ids[d->count - 1];
    }
    free(jobs);
    free(texts);
    free(ids);
    return code;
}

/* The connection of this thread; NULL when there is none to be had. */
static PGconn *thread_connection(demo *d)
{
    PGconn *conn = pthread_getspecific(d->connection);

    if (conn != NULL && PQstatus(conn) == CONNECTION_OK)
        return conn;
    PQfinish(conn);
    conn = PQconnectdb(d->dsn);
    if (PQstatus(conn) != CONNECTION_OK || pthread_setspecific(d->connection, conn) != 0) {
        PQfinish(conn);
        (void)pthread_setspecific(d->connection, NULL);
        return NULL;
    }
    return conn;
}

static void close_connection(void *conn)
{
    PQfinish(conn);
}

/* Feeds a file to the hash; false with errno when it cannot be read, ECANCELED when the job was
 * cancelled meanwhile. */
static bool hash_file(pgq_job *job, const char *path, EVP_MD_CTX *hash)
{
    static _Thread_local unsigned char chunk[CHUNK_BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), saved;
    ssize_t length = -1;

    if (fd < 0)
        return false;
    errno = 0;
    while (!pgq_job_cancelled(job) && (length = read(fd, chunk, sizeof(chunk))) > 0)
        (void)EVP_DigestUpdate(hash, chunk, (size_t)length);
    saved = pgq_job_cancelled(job) ? ECANCELED : errno;
    (void)close(fd);
    errno = saved;
    return length == 0;
}

/* The SHA-256 of a file, in hexadecimal. */
static bool sha256(pgq_job *job, const char *path, char hex[2 * EVP_MAX_MD_SIZE + 1])
{
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    bool done = hash != NULL && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1 &&
                hash_file(job, path, hash) && EVP_DigestFinal_ex(hash, digest, &length) == 1;

    for (unsigned int i = 0; done && i < length; i++)
        (void)snprintf(hex + (size_t)2 * i, 3, "%02x", digest[i]);
    EVP_MD_CTX_free(hash);
    return done;
}

static pgq_outcome store(PGconn *conn, const char *id, const char *hex)
{
    const char *values[] = {id, hex};
    PGresult *result = PQexecParams(conn, "UPDATE demo_files SET sha256 = $2 WHERE id = $1", 2,
                                    NULL, values, NULL, NULL, 0);
    bool done = PQresultStatus(result) == PGRES_COMMAND_OK;

    PQclear(result);
    return done ? pgq_done() : pgq_retry(1000, PQerrorMessage(conn));
}

static pgq_outcome work_on(demo *d, pgq_job *job)
{
    pgq_bytes payload = pgq_job_payload(job);
    char id[NUMBER_BYTES], hex[2 * EVP_MAX_MD_SIZE + 1] = "";
    const char *values[] = {id};
    PGconn *conn = thread_connection(d);
    PGresult *result;
    pgq_outcome outcome;

    if (conn == NULL)
        return pgq_retry(1000, "no connection to the database");
    if (payload.data == NULL || payload.len >= sizeof(id))
        return pgq_fail("ValueError", "the payload is not a number of a row");
    memcpy(id, payload.data, payload.len);
    id[payload.len] = '\0';
    result = PQexecParams(conn, "SELECT path FROM demo_files WHERE id = $1", 1, NULL, values, NULL,
                          NULL, 0);
    if (PQntuples(result) != 1)
        outcome = pgq_fail("LookupError", "there is no row with this number");
    else if (sha256(job, PQgetvalue(result, 0, 0), hex))
        outcome = store(conn, id, hex);
    else
        outcome = errno == ECANCELED ? pgq_cancelled() : pgq_fail("OSError", strerror(errno));
    PQclear(result);
    return outcome;
}

static pgq_outcome handle(pgq_job *job, void *user)
{
    demo *d = user;
    pgq_outcome outcome = work_on(d, job);
    int64_t done = atomic_fetch_add(&d->done, 1) + 1;

    if (pthread_mutex_trylock(&d->bar_lock) == 0) {
        progress_show(&d->bar, done);
        (void)pthread_mutex_unlock(&d->bar_lock);
    }
    return outcome;
}

pgq_code demo_register(demo *d, pgq_worker *worker, pgq_error *err)
{
    if (pthread_key_create(&d->connection, close_connection) != 0)
        return error_nomem(err);
    return pgq_worker_entrypoint(worker, DEMO_ENTRYPOINT, handle, d, NULL, err);
}
