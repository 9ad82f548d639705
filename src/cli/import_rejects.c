/* The file of rejects: JSON lines, exactly those of the lines that are dealt with, whatever was
 * killed in between. */
#include "base/error.h"
#include "cli/cli.h"
#include "cli/import.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SHOWN_MAX = 10 };

static const char row_begins[] = "{\"line\":";

static pgq_code failed(const import_rejects *r, const char *what, pgq_error *err)
{
    (void)error_set(err, PGQ_E_IO, "cannot %s the file of rejects: %s", what, strerror(errno));
    error_where(err, "%s", r->path);
    return PGQ_E_IO;
}

/* Whether what stands behind the bytes that are ours is what a killed run left. */
static bool is_ours(int fd, int64_t bytes)
{
    char begin[sizeof(row_begins) - 1], end = '\n';

    if (bytes > 0 && (pread(fd, &end, 1, bytes - 1) != 1 || end != '\n'))
        return false;
    return pread(fd, begin, sizeof(begin), bytes) == (ssize_t)sizeof(begin) &&
           memcmp(begin, row_begins, sizeof(begin)) == 0;
}

static pgq_code begin_at(import_rejects *r, int64_t bytes, bool resumed, int64_t size,
                         pgq_error *err)
{
    bool fits = size == 0 || size == bytes || (resumed && size > bytes && is_ours(r->fd, bytes));

    if (!fits) {
        (void)error_set(err, PGQ_E_STATE, "the file of rejects is there and holds something else");
        error_where(err, "%s", r->path);
        error_hint(err, "move it away, or name another one with --rejects");
        return PGQ_E_STATE;
    }
    if (size > bytes && ftruncate(r->fd, bytes) != 0)
        return failed(r, "cut", err);
    r->bytes = base_min_i64(size, bytes); /* of a file that was moved away nothing is left */
    if (lseek(r->fd, r->bytes, SEEK_SET) < 0)
        return failed(r, "seek in", err);
    return PGQ_OK;
}

pgq_code import_rejects_open(import_rejects *r, const char *path, int64_t bytes, bool resumed,
                             pgq_error *err)
{
    struct stat what;

    *r = (import_rejects){.path = path, .fd = -1, .pending = BUFFER_INIT};
    if (path == NULL)
        return PGQ_OK;
    r->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (r->fd < 0)
        return failed(r, "open", err);
    if (fstat(r->fd, &what) != 0)
        return failed(r, "look at", err);
    r->regular = S_ISREG(what.st_mode);
    return r->regular ? begin_at(r, bytes, resumed, what.st_size, err) : PGQ_OK;
}

void import_rejects_close(import_rejects *r)
{
    if (r->fd >= 0)
        (void)close(r->fd);
    r->fd = -1;
    buffer_release(&r->pending);
}

void import_rejects_add(import_rejects *r, int64_t line, const char *reason, const char *text,
                        size_t len, bool cut)
{
    r->count++;
    if (r->path == NULL) {
        if (r->count <= SHOWN_MAX)
            (void)fprintf(stderr, "pgqueuer: line %lld is rejected: %s\n", (long long)line, reason);
        if (r->count == SHOWN_MAX)
            (void)fputs("pgqueuer: more rejects are only counted; --rejects FILE keeps them\n",
                        stderr);
        return;
    }
    cut = cut || len > IMPORT_SHOWN_BYTES_MAX;
    buffer_add_format(&r->pending, "%s %lld, \"reason\": ", row_begins, (long long)line);
    buffer_add_json(&r->pending, reason, strlen(reason));
    buffer_add_text(&r->pending, ", \"text\": ");
    buffer_add_json(&r->pending, text, base_min_size(len, IMPORT_SHOWN_BYTES_MAX));
    buffer_add_text(&r->pending, cut ? ", \"cut\": true}\n" : "}\n");
}

pgq_code import_rejects_write(import_rejects *r, pgq_error *err)
{
    if (r->pending.broken)
        return error_nomem(err);
    if (r->pending.len == 0)
        return PGQ_OK;
    if (!cli_write(r->fd, r->pending.data, r->pending.len) || (r->regular && fdatasync(r->fd) != 0))
        return failed(r, "write", err);
    r->bytes += (int64_t)r->pending.len;
    buffer_clear(&r->pending);
    return PGQ_OK;
}
