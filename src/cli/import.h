/* The parts of `import`: from bytes to records, from records to jobs, and what became of the rest.
 * They know nothing of the program's options and of the database. */
#ifndef CLI_IMPORT_H
#define CLI_IMPORT_H

#include "base/arena.h"
#include "base/buffer.h"

#include <pgqueuer/client.h>

/* A record is a line, of CSV as many lines as its quotes hold together. The longest payload in
 * base64, with headers and all, fits. A longer one is passed over without being held. */
#define IMPORT_RECORD_BYTES_MAX ((size_t)96 * 1024 * 1024)

enum {
    IMPORT_SHOWN_BYTES_MAX = 1024 * 1024, /* of a record, in the file of rejects */
    IMPORT_LOST_BYTES_MAX = 1024,         /* of one that was passed over */
    IMPORT_REASON_BYTES = 256,
    IMPORT_COLUMNS_MAX = 8
};

typedef enum import_format { IMPORT_JSONL, IMPORT_CSV } import_format;

/* ---- import_source.c ---- */

/* Where in a record of CSV a byte stands. */
typedef enum csv_place { CSV_FIELD_BEGINS, CSV_PLAIN, CSV_QUOTED, CSV_QUOTE_SEEN } csv_place;

/* The place after this byte; a line ends where one that is not CSV_QUOTED meets '\n'. */
csv_place csv_next(csv_place place, char c);

/* A stream and how far it is read. `position`, `digest` and `lines` count what was handed out. */
typedef struct import_source {
    int fd; /* borrowed */
    import_format format;
    size_t record_max;
    int64_t position; /* bytes */
    uint64_t digest;
    int64_t lines;
    buffer data; /* what was read and not handed out begins at `at` */
    size_t at;
    size_t scanned;  /* there is no end of a record before */
    csv_place place; /* there */
    bool ended;
    bool losing; /* within a record that is too long */
    size_t lost_len;
    char lost[IMPORT_LOST_BYTES_MAX]; /* its beginning */
} import_source;

typedef struct import_record {
    const char *text; /* without the line's end; until the next call. NULL: the stream has ended */
    size_t len;
    int64_t line;  /* the number of its first line, from 1 */
    bool too_long; /* only its beginning is here */
    bool unclosed; /* CSV: the stream ends within quotes */
} import_record;

void import_source_init(import_source *s, int fd, import_format format);
void import_source_release(import_source *s);

/* Errors: PGQ_E_IO, PGQ_E_NOMEM. */
pgq_code import_source_next(import_source *s, import_record *ret_record, pgq_error *err);

/* Passes over so many bytes, of which `digest` is brought up to date. PGQ_E_STATE: there are not so
 * many. */
pgq_code import_source_skip(import_source *s, int64_t bytes, pgq_error *err);

/* Whether everything was handed out. */
pgq_code import_source_at_end(import_source *s, bool *ret_at_end, pgq_error *err);

/* A digest of bytes, to go on with (IMPORT_DIGEST_INIT to begin). FNV-1a: for telling files apart
 * that nobody made alike on purpose. */
#define IMPORT_DIGEST_INIT UINT64_C(14695981039346656037)
uint64_t import_digest(uint64_t digest, const char *bytes, size_t len);

/* ---- import_job.c ---- */

typedef enum import_field {
    FIELD_ENTRYPOINT,
    FIELD_PAYLOAD,
    FIELD_PAYLOAD_BASE64,
    FIELD_PRIORITY,
    FIELD_HEADERS,
    FIELD_DELAY,
    FIELD_EXECUTE_AFTER,
    FIELD_DEDUPE_KEY,
    FIELD_COUNT
} import_field;

extern const char *const import_field_names[FIELD_COUNT];

/* The field of this name; FIELD_COUNT: there is none. */
import_field import_field_find(const char *name, size_t len);

/* A job in the making: the defaults, then field after field. */
typedef struct import_job {
    pgq_new_job job;
    arena *memory; /* of what the job points to */
    bool given[FIELD_COUNT];
    char reason[IMPORT_REASON_BYTES]; /* why it cannot be made */
} import_job;

void import_job_init(import_job *j, const pgq_new_job *defaults, arena *memory);

/* These give false with the reason set. */
bool import_job_set(import_job *j, import_field field, const char *text, size_t len);
bool import_job_finish(import_job *j);

/* Sets the reason; false. */
bool import_job_refuse(import_job *j, const char *format, ...) BASE_PRINTF(2, 3);

/* ---- import_json.c, import_csv.c ---- */

/* Fills the job from one record; false with the reason set. */
bool import_read_json(import_job *j, const char *text, size_t len);

/* Which fields the columns hold, by the first record. */
typedef struct import_columns {
    import_field fields[IMPORT_COLUMNS_MAX];
    size_t count;
} import_columns;

/* Errors: PGQ_E_INVALID. */
pgq_code import_read_head(import_columns *columns, const char *text, size_t len, pgq_error *err);
bool import_read_csv(import_job *j, const import_columns *columns, const char *text, size_t len);

/* ---- import_rejects.c ---- */

/* The records that became no job. They are held until import_rejects_write, which comes before the
 * commit that counts them. */
typedef struct import_rejects {
    const char *path; /* borrowed; NULL: the first few are shown on stderr */
    int fd;
    bool regular;
    int64_t bytes; /* written */
    int64_t count; /* of this run */
    buffer pending;
} import_rejects;

/* Opens the file. `bytes` of it are ours, if this run goes on with another one (`resumed`); what it
 * has beyond was never committed, and is cut off. A file that holds something else is refused:
 * PGQ_E_STATE. */
pgq_code import_rejects_open(import_rejects *r, const char *path, int64_t bytes, bool resumed,
                             pgq_error *err);
void import_rejects_close(import_rejects *r);

void import_rejects_add(import_rejects *r, int64_t line, const char *reason, const char *text,
                        size_t len, bool cut);
pgq_code import_rejects_write(import_rejects *r, pgq_error *err);

#endif
