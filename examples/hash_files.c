/* A worker that reads files: the payload is a path, relative to the folder that is its argument.
 * Shows the outcomes of a job: done, failed for good, tried again later, given up when told to.
 *
 *   cc -shared -fPIC -o hash_files.so hash_files.c $(pkg-config --cflags --libs pgqueuer)
 *   pgqueuer queue hash_file hash_files.c
 *   pgqueuer run ./hash_files.so:factory --threads 8 -- .
 */
#include <pgqueuer/pgqueuer.h>

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, CHUNK_BYTES = 65536, ATTEMPTS_MAX = 3, RETRY_MS = 2000 };

/* Writes FOLDER/PAYLOAD into `path`. False for a payload that is no path below the folder. */
static bool make_path(char path[PATH_BYTES], const char *folder, pgq_bytes payload)
{
    const char *name = payload.data;
    int length;

    if (payload.len == 0 || memchr(name, '\0', payload.len) != NULL || name[0] == '/' ||
        payload.len > PATH_BYTES)
        return false;
    length = snprintf(path, PATH_BYTES, "%s/%.*s", folder, (int)payload.len, name);
    return length > 0 && length < PATH_BYTES && strstr(path, "/../") == NULL;
}

/* FNV-1a, 64 bits, over the file; ends early when the job is cancelled. */
static uint64_t hash(FILE *file, const pgq_job *job)
{
    static _Thread_local unsigned char chunk[CHUNK_BYTES]; /* handlers run in several threads */
    uint64_t value = 14695981039346656037u;
    size_t length;

    while (!pgq_job_cancelled(job) && (length = fread(chunk, 1, sizeof(chunk), file)) > 0) {
        for (size_t i = 0; i < length; i++)
            value = (value ^ chunk[i]) * 1099511628211u;
    }
    return value;
}

/* What a file that cannot be opened means: it may still be on its way, or it never comes. */
static pgq_outcome missing(const pgq_job *job, int reason)
{
    if (reason == ENOENT && pgq_job_attempts(job) < ATTEMPTS_MAX)
        return pgq_retry(RETRY_MS, "the file is not there yet");
    return pgq_fail("OSError", strerror(reason));
}

static pgq_outcome hash_file(pgq_job *job, void *user)
{
    char path[PATH_BYTES];
    uint64_t value;
    bool broken;
    FILE *file;

    if (!make_path(path, user, pgq_job_payload(job)))
        return pgq_fail("ValueError", "the payload is not a path below the folder");
    file = fopen(path, "rb");
    if (file == NULL)
        return missing(job, errno);
    value = hash(file, job);
    broken = ferror(file) != 0;
    fclose(file);
    if (pgq_job_cancelled(job))
        return pgq_cancelled();
    if (broken)
        return pgq_fail("OSError", "the file cannot be read");
    printf("%016llx  %s\n", (unsigned long long)value, path);
    return pgq_done();
}

/* argv is what follows `--`, and lives as long as the worker. */
pgq_code factory(pgq_worker *worker, int argc, char **argv, pgq_error *err);
pgq_code factory(pgq_worker *worker, int argc, char **argv, pgq_error *err)
{
    static char here[] = ".";
    pgq_entrypoint_options options = PGQ_ENTRYPOINT_OPTIONS_INIT;
    char *folder = argc > 0 ? argv[0] : here;

    if (access(folder, R_OK | X_OK) != 0) {
        snprintf(err->message, sizeof(err->message), "cannot use the folder %s: %s", folder,
                 strerror(errno));
        err->code = PGQ_E_NOT_FOUND;
        return err->code;
    }
    options.on_failure = PGQ_ON_FAILURE_HOLD; /* failed jobs stay, for a look and a requeue */
    return pgq_worker_entrypoint(worker, "hash_file", hash_file, folder, &options, err);
}
