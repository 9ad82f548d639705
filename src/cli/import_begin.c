/* Where an import begins: at the first line, or where an earlier run was interrupted.
 *
 * A file is known by its size and the digest of its first bytes, so that it may be moved, and else
 * by its path, so that it may have grown. Either is only a clue: before this run goes on,
 * everything that was imported is read again and must have the digest that was committed. */
#include "base/error.h"
#include "base/utf8.h"
#include "cli/import_run.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PREFIX_BYTES = 64 * 1024, TRIES_MAX = 5 };

static const char *what_is_read(const import_options *o)
{
    return o->path != NULL ? o->path : "standard input";
}

static pgq_code open_stream(import_run *run, pgq_error *err)
{
    const import_options *o = run->options;
    int fd = o->path != NULL ? open(o->path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    struct stat what;

    if (fd < 0 || fstat(fd, &what) != 0) {
        (void)error_set(err, errno == ENOENT ? PGQ_E_NOT_FOUND : PGQ_E_IO, "cannot open: %s",
                        strerror(errno));
        error_where(err, "%s", what_is_read(o));
        return err->code;
    }
    run->regular = o->path != NULL && S_ISREG(what.st_mode);
    run->file_bytes = run->regular ? what.st_size : 0;
    import_source_init(&run->in, fd, o->format);
    return PGQ_OK;
}

/* The name that a file has of itself, and its path. */
static pgq_code name_file(import_run *run, pgq_error *err)
{
    const import_options *o = run->options;
    char *path, prefix[PREFIX_BYTES];
    ssize_t len;

    if (o->name != NULL)
        (void)snprintf(run->name, sizeof(run->name), "%s", o->name);
    if (!run->regular)
        return PGQ_OK;
    path = realpath(o->path, NULL);
    if (path != NULL && strlen(path) < sizeof(run->source) && utf8_valid(path, strlen(path)))
        (void)snprintf(run->source, sizeof(run->source), "%s", path);
    free(path);
    len = pread(run->in.fd, prefix, sizeof(prefix), 0);
    if (len < 0)
        return error_set(err, PGQ_E_IO, "cannot read: %s", strerror(errno));
    if (o->name == NULL)
        (void)snprintf(run->name, sizeof(run->name), "file:%lld:%016" PRIx64,
                       (long long)run->file_bytes,
                       import_digest(IMPORT_DIGEST_INIT, prefix, (size_t)len));
    return PGQ_OK;
}

/* The options that shape the jobs: with others it is another import. The file of rejects is among
 * them since it is cut to what was committed, which no other file may be. */
static void describe_settings(import_run *run)
{
    static const char *const formats[] = {"jsonl", "csv"};
    static const char *const conflicts[] = {"raise", "skip", "update_priority"};
    static const char *const policies[] = {"default", "full", "terminal", "failures"};
    const import_options *o = run->options;
    const pgq_new_job *d = &o->defaults;
    const char *headers = d->headers != NULL ? d->headers : "";
    const char *rejects = o->rejects != NULL ? o->rejects : "";

    (void)snprintf(run->settings, sizeof(run->settings),
                   "--format %s --on-conflict %s --log-policy %s --priority %d --delay %lld ms "
                   "--at %lld us --headers %016" PRIx64 " --rejects %016" PRIx64 " --entrypoint %s",
                   formats[o->format], conflicts[o->on_conflict], policies[o->log_policy],
                   d->priority, (long long)d->delay_ms, (long long)d->run_at_us,
                   import_digest(IMPORT_DIGEST_INIT, headers, strlen(headers)),
                   import_digest(IMPORT_DIGEST_INIT, rejects, strlen(rejects)),
                   d->entrypoint != NULL ? d->entrypoint : "");
}

static void begin_anew(import_run *run, int64_t version)
{
    run->state = (pgq_import)PGQ_IMPORT_INIT;
    run->state.name = run->name;
    run->state.source = run->source[0] != '\0' ? run->source : NULL;
    run->state.settings = run->settings;
    run->state.version = version;
    run->state.digest = (int64_t)IMPORT_DIGEST_INIT;
    run->resumed = false;
}

/* The names of the columns stand in the first record, also where an earlier run has read it. */
static pgq_code read_columns(import_run *run, pgq_error *err)
{
    import_record head;
    pgq_code code;

    if (run->options->format != IMPORT_CSV)
        return PGQ_OK;
    code = import_source_next(&run->in, &head, err);
    if (code == PGQ_OK && head.text == NULL)
        code = error_set(err, PGQ_E_INVALID, "it is empty, without the names of its columns");
    if (code == PGQ_OK)
        code = import_read_head(&run->columns, head.text, head.len, err);
    if (code != PGQ_OK)
        error_where(err, "%s", what_is_read(run->options));
    return code;
}

static pgq_code rewind_stream(import_run *run, pgq_error *err)
{
    int fd = run->in.fd;

    import_source_release(&run->in);
    import_source_init(&run->in, fd, run->options->format);
    if (run->regular && lseek(fd, 0, SEEK_SET) != 0)
        return error_set(err, PGQ_E_IO, "cannot seek: %s", strerror(errno));
    return read_columns(run, err);
}

static pgq_code not_the_same(const import_run *run, pgq_error *err)
{
    (void)error_set(err, PGQ_E_STATE, "it does not begin with what was imported as %.100s",
                    run->name);
    error_where(err, "%s", what_is_read(run->options));
    error_hint(err, "--name NAME imports it under another name");
    return PGQ_E_STATE;
}

static pgq_code other_settings(const import_run *run, const pgq_import *found, pgq_error *err)
{
    (void)error_set(err, PGQ_E_STATE, "it was imported, or begun, with other options: %.300s",
                    found->settings);
    error_where(err, "%s", what_is_read(run->options));
    error_hint(err, "the same options go on with it; --name NAME makes it another import");
    return PGQ_E_STATE;
}

/* Reads what was imported again, and goes on behind it if it is the same. */
static pgq_code go_on(import_run *run, const pgq_import *found, bool *ret_same, pgq_error *err)
{
    bool at_end = false;
    pgq_code code = PGQ_OK;

    *ret_same = true;
    if (found->position > 0) { /* the names of the columns are read already */
        code = import_source_skip(&run->in, found->position - run->in.position, err);
        *ret_same = code == PGQ_OK && run->in.digest == (uint64_t)found->digest;
        run->in.lines = found->lines;
    }
    if (!*ret_same)
        return code == PGQ_E_STATE ? PGQ_OK : code;
    if (!base_streq(found->settings, run->settings))
        return other_settings(run, found, err);
    code = import_source_at_end(&run->in, &at_end, err);
    if (code != PGQ_OK)
        return code;
    run->done_before = found->finished && at_end;
    run->resumed = true;
    (void)snprintf(run->name, sizeof(run->name), "%s", found->name);
    run->state = *found;
    run->state.name = run->name;
    run->state.source = run->source[0] != '\0' ? run->source : NULL;
    run->state.settings = run->settings;
    run->state.finished = false;
    run->rejected_before = found->rejected;
    return PGQ_OK;
}

/* Where to begin, given what is known of this name or path. */
static pgq_code decide(import_run *run, const pgq_import *found, pgq_error *err)
{
    bool by_name = base_streq(found->name, run->name), same = false;
    pgq_code code;

    if (found->finished && run->options->again) {
        begin_anew(run, by_name ? found->version : 0);
        return PGQ_OK;
    }
    code = go_on(run, found, &same, err);
    if (code != PGQ_OK || same)
        return code;
    if (by_name)
        return not_the_same(run, err);
    begin_anew(run, 0); /* another file, where that one was */
    return rewind_stream(run, err);
}

/* Without the extras, or without the right to use them, there is no position. */
static pgq_code unrecorded(import_run *run, pgq_error *err)
{
    const import_options *o = run->options;

    if (o->resume || o->name != NULL) {
        error_where(err, o->resume ? "--resume" : "--name");
        return err->code;
    }
    (void)fprintf(stderr,
                  "pgqueuer: how far the import has come is not remembered (%s): if it is "
                  "interrupted, the same command would begin at the first line again\n"
                  "  hint: %s\n",
                  err->message, err->hint);
    run->recorded = false;
    begin_anew(run, 0);
    return PGQ_OK;
}

static pgq_code find(import_run *run, pgq_error *err)
{
    bool by_path = run->options->name == NULL && run->source[0] != '\0';
    pgq_import *found = NULL;
    pgq_code code =
        pgq_import_find(run->client, run->name, by_path ? run->source : NULL, &found, err);

    run->recorded = true;
    begin_anew(run, 0);
    if (code == PGQ_E_SCHEMA_MISSING || code == PGQ_E_SCHEMA_MISMATCH || code == PGQ_E_PERMISSION)
        return unrecorded(run, err);
    if (code == PGQ_OK)
        code = decide(run, found, err);
    else if (code == PGQ_E_NOT_FOUND)
        code = PGQ_OK;
    (void)pgq_import_free(found);
    return code;
}

static pgq_code open_rejects(import_run *run, pgq_error *err)
{
    import_rejects_close(&run->rejects);
    return import_rejects_open(&run->rejects, run->options->rejects, run->state.rejects_bytes,
                               run->resumed, err);
}

/* Finds, and takes the import for this run: whoever else is at it fails at the next chunk. One that
 * is just ending may have committed after we looked; then it is looked at again. */
static pgq_code find_and_take(import_run *run, pgq_error *err)
{
    pgq_code code = PGQ_E_STATE;

    for (int i = 0; i < TRIES_MAX; i++) {
        code = find(run, err);
        if (code != PGQ_OK || run->done_before)
            return code;
        if (!run->resumed && run->options->resume) {
            (void)error_set(err, PGQ_E_NOT_FOUND, "there is no interrupted import of it");
            error_where(err, "%s", what_is_read(run->options));
            error_hint(err, "without --resume it is imported from the first line on");
            return PGQ_E_NOT_FOUND;
        }
        code = open_rejects(run, err);
        if (code != PGQ_OK || !run->recorded)
            return code;
        code = pgq_import_batch(run->client, &run->state, NULL, 0, PGQ_ON_CONFLICT_RAISE, err);
        if (code != PGQ_E_STATE || !run->regular)
            return code;
        if (rewind_stream(run, err) != PGQ_OK)
            return err->code;
    }
    return code;
}

pgq_code import_begin(import_run *run, const import_options *options, pgq_client *client,
                      pgq_error *err)
{
    pgq_code code;

    *run = (import_run){.options = options, .client = client};
    import_source_init(&run->in, -1, options->format);
    run->rejects.fd = -1;
    describe_settings(run);
    begin_anew(run, 0);
    code = open_stream(run, err);
    if (code == PGQ_OK)
        code = name_file(run, err);
    if (code == PGQ_OK)
        code = read_columns(run, err);
    if (code == PGQ_OK && run->name[0] != '\0')
        return find_and_take(run, err);
    if (code == PGQ_OK && options->resume)
        return error_set(err, PGQ_E_INVALID, "a stream can be resumed by its --name only");
    return code == PGQ_OK ? open_rejects(run, err) : code;
}
