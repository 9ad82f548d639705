/* From bytes to records, in bounded memory: what is held is one record and one read. */
#include "base/error.h"
#include "cli/import.h"

#include <errno.h>
#include <unistd.h>

enum { READ_BYTES = 256 * 1024 };

uint64_t import_digest(uint64_t digest, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        digest = (digest ^ (unsigned char)bytes[i]) * UINT64_C(1099511628211);
    return digest;
}

void import_source_init(import_source *s, int fd, import_format format)
{
    *s = (import_source){.fd = fd,
                         .format = format,
                         .record_max = IMPORT_RECORD_BYTES_MAX,
                         .digest = IMPORT_DIGEST_INIT,
                         .data = BUFFER_INIT};
}

void import_source_release(import_source *s)
{
    buffer_release(&s->data);
}

/* Counts the next `len` bytes as handed out. Where they are stays as it is until the next read. */
static void consume(import_source *s, size_t len)
{
    s->digest = import_digest(s->digest, s->data.data + s->at, len);
    s->position += (int64_t)len;
    s->at += len;
    s->scanned = s->at;
}

static pgq_code read_more(import_source *s, pgq_error *err)
{
    char *room;
    ssize_t done;

    if (s->at > 0) {
        memmove(s->data.data, s->data.data + s->at, s->data.len - s->at);
        s->data.len -= s->at;
        s->scanned -= s->at;
        s->at = 0;
    }
    room = buffer_reserve(&s->data, READ_BYTES);
    if (room == NULL)
        return error_nomem(err);
    do
        done = read(s->fd, room, READ_BYTES);
    while (done < 0 && errno == EINTR);
    if (done < 0)
        return error_set(err, PGQ_E_IO, "cannot read: %s", strerror(errno));
    s->data.len += (size_t)done;
    s->ended = done == 0;
    return PGQ_OK;
}

csv_place csv_next(csv_place place, char c)
{
    if (place == CSV_QUOTED)
        return c == '"' ? CSV_QUOTE_SEEN : CSV_QUOTED;
    if (c == '"' && place != CSV_PLAIN)
        return CSV_QUOTED; /* it opens, or is the second of two */
    return c == ',' ? CSV_FIELD_BEGINS : CSV_PLAIN;
}

/* Whether the end of the record is among what was read; it is at `scanned` then. */
static bool find_end(import_source *s)
{
    const char *from = s->data.data + s->scanned, *end;

    if (s->format == IMPORT_JSONL) {
        end = s->data.len > s->scanned ? memchr(from, '\n', s->data.len - s->scanned) : NULL;
        s->scanned = end != NULL ? (size_t)(end - s->data.data) : s->data.len;
        return end != NULL;
    }
    for (; s->scanned < s->data.len; s->scanned++) {
        char c = s->data.data[s->scanned];

        if (c == '\n' && s->place != CSV_QUOTED)
            return true;
        s->place = csv_next(s->place, c);
    }
    return false;
}

static int64_t count_lines(const char *text, size_t len)
{
    int64_t lines = 0;
    const char *end = text + len;

    for (; text < end && (text = memchr(text, '\n', (size_t)(end - text))) != NULL; text++)
        lines++;
    return lines;
}

/* Passes over what there is of a record that is too long, but for its beginning. */
static void lose(import_source *s)
{
    size_t len = s->scanned - s->at;

    if (!s->losing) {
        s->lost_len = base_min_size(len, sizeof(s->lost));
        memcpy(s->lost, s->data.data + s->at, s->lost_len);
        s->losing = true;
    }
    s->lines += count_lines(s->data.data + s->at, len);
    consume(s, len);
}

static void skip_mark(import_source *s, import_record *r)
{
    static const char byte_order_mark[] = {'\xEF', '\xBB', '\xBF'};

    if (s->position == 0 && r->len >= sizeof(byte_order_mark) &&
        memcmp(r->text, byte_order_mark, sizeof(byte_order_mark)) == 0) {
        r->text += sizeof(byte_order_mark);
        r->len -= sizeof(byte_order_mark);
    }
}

/* The record ends at `scanned`, before a line's end or at the end of the stream. */
static void hand_out(import_source *s, bool line_end, import_record *r)
{
    size_t len = s->scanned - s->at;

    r->unclosed = !line_end && s->place == CSV_QUOTED;
    if (s->losing || len > s->record_max) {
        lose(s);
        r->too_long = true;
        r->text = s->lost;
        r->len = s->lost_len;
        len = 0;
    } else {
        r->text = s->data.data + s->at;
        r->len = len;
        if (r->len > 0 && r->text[r->len - 1] == '\r')
            r->len--;
        skip_mark(s, r);
    }
    s->lines += count_lines(s->data.data + s->at, len) + 1;
    consume(s, len + (line_end ? 1 : 0));
    s->losing = false;
    s->place = CSV_FIELD_BEGINS;
}

pgq_code import_source_next(import_source *s, import_record *ret_record, pgq_error *err)
{
    *ret_record = (import_record){.line = s->lines + 1};
    for (;;) {
        pgq_code code;

        if (find_end(s)) {
            hand_out(s, true, ret_record);
            return PGQ_OK;
        }
        if (s->ended) {
            if (s->scanned > s->at || s->losing)
                hand_out(s, false, ret_record);
            return PGQ_OK;
        }
        if (s->scanned - s->at > s->record_max)
            lose(s);
        code = read_more(s, err);
        if (code != PGQ_OK)
            return code;
    }
}

pgq_code import_source_at_end(import_source *s, bool *ret_at_end, pgq_error *err)
{
    pgq_code code = PGQ_OK;

    while (code == PGQ_OK && s->at == s->data.len && !s->ended)
        code = read_more(s, err);
    *ret_at_end = s->at == s->data.len;
    return code;
}

pgq_code import_source_skip(import_source *s, int64_t bytes, pgq_error *err)
{
    int64_t until = s->position + bytes;

    while (s->position < until) {
        bool at_end;
        pgq_code code = import_source_at_end(s, &at_end, err);

        if (code != PGQ_OK)
            return code;
        if (at_end)
            return error_set(err, PGQ_E_STATE, "it ends after %lld bytes", (long long)s->position);
        consume(s, (size_t)base_min_i64(until - s->position, (int64_t)(s->data.len - s->at)));
    }
    return PGQ_OK;
}
