/* Handlers that write a journal of their runs to a file: what really ran, and when, whatever
 * becomes of the database. tests/lib/journal.py describes the format and reads it.
 *
 *   pgqueuer run journal.so:factory -- JOURNAL [[NAME=]BEHAVIOUR[,OPTION[=VALUE]]...]...
 *
 * Without names, every behaviour is an entrypoint under its own name. The options are those of
 * option_rows, such as `work=sleep,limit=3,retry_timer=500`. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <pgqueuer/pgqueuer.h>

enum { GATE_SECONDS = 600 };

static int journal_fd = -1;
static char gate_path[4096];

/* -- SHA-256 (FIPS 180-4), so that a test compares payloads without storing them ----------------
 */

static const uint32_t sha_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t value, int bits)
{
    return (value >> bits) | (value << (32 - bits));
}

static void sha_block(uint32_t state[8], const uint8_t *block)
{
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
               (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ (a >> 3)) + w[i - 7] +
               (rotate(b, 17) ^ rotate(b, 19) ^ (b >> 10));
    }
    memcpy(s, state, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t t1 = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) +
                      ((s[4] & s[5]) ^ (~s[4] & s[6])) + sha_k[i] + w[i];
        uint32_t t2 = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) +
                      ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof s[0]);
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++)
        state[i] += s[i];
}

static void sha256_hex(const uint8_t *data, size_t len, char ret_hex[65])
{
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    size_t whole = len / 64 * 64, rest = len - whole;
    uint8_t tail[128] = {0};
    size_t tail_len = rest < 56 ? 64 : 128;

    for (size_t at = 0; at < whole; at += 64)
        sha_block(state, data + at);
    if (rest != 0)
        memcpy(tail, data + whole, rest);
    tail[rest] = 0x80;
    for (int i = 0; i < 8; i++)
        tail[tail_len - 1 - (size_t)i] = (uint8_t)((uint64_t)len * 8 >> (8 * i));
    for (size_t at = 0; at < tail_len; at += 64)
        sha_block(state, tail + at);
    for (int i = 0; i < 8; i++)
        snprintf(ret_hex + 8 * i, 9, "%08" PRIx32, state[i]);
}

/* -- the journal ------------------------------------------------------------------------------ */

static int64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* One write, so that lines of several threads and processes never mix. */
static void append(const char *line, size_t len)
{
    if (write(journal_fd, line, len) != (ssize_t)len) {
        perror("journal");
        abort();
    }
}

static int64_t journal_start(const pgq_job *job)
{
    pgq_bytes payload = pgq_job_payload(job);
    const char *headers = pgq_job_headers(job);
    int64_t start = monotonic_ns();
    char digest[65], *line;
    int len;

    sha256_hex(payload.data, payload.data == NULL ? 0 : payload.len, digest);
    len = asprintf(
        &line,
        "start\t%d\t%" PRId64 "\t%" PRId32 "\t%" PRId64 "\t%s\t%" PRId32 "\t%" PRId64 "\t%s\t%s\n",
        (int)getpid(), pgq_job_id(job), pgq_job_attempts(job), start, pgq_job_entrypoint(job),
        pgq_job_priority(job), payload.data == NULL ? (int64_t)-1 : (int64_t)payload.len, digest,
        headers == NULL ? "-" : headers);
    if (len < 0)
        abort();
    append(line, (size_t)len);
    free(line);
    return start;
}

static void journal_end(const pgq_job *job, int64_t start, const char *outcome)
{
    char line[256];
    int len = snprintf(
        line, sizeof line, "end\t%d\t%" PRId64 "\t%" PRId32 "\t%" PRId64 "\t%" PRId64 "\t%s\n",
        (int)getpid(), pgq_job_id(job), pgq_job_attempts(job), start, monotonic_ns(), outcome);
    append(line, (size_t)len);
}

/* -- behaviours: each returns the name of its outcome for the journal ------------------------- */

static int64_t payload_number(const pgq_job *job)
{
    pgq_bytes payload = pgq_job_payload(job);
    char text[32] = "";
    if (payload.data != NULL && payload.len < sizeof text)
        memcpy(text, payload.data, payload.len);
    return strtoll(text, NULL, 10);
}

static void sleep_ms(int64_t ms)
{
    struct timespec rest = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&rest, &rest) != 0 && errno == EINTR) {
    }
}

static const char *do_ok(pgq_job *job, pgq_outcome *ret)
{
    (void)job;
    *ret = pgq_done();
    return "done";
}

/* Runs for as many ms as the payload says, whatever it is told meanwhile. */
static const char *do_sleep(pgq_job *job, pgq_outcome *ret)
{
    sleep_ms(payload_number(job));
    *ret = pgq_done();
    return "done";
}

/* Runs until a test makes the file JOURNAL.gate. */
static const char *do_gate(pgq_job *job, pgq_outcome *ret)
{
    (void)job;
    for (int64_t end = monotonic_ns() + (int64_t)GATE_SECONDS * 1000000000; monotonic_ns() < end;) {
        if (access(gate_path, F_OK) == 0) {
            *ret = pgq_done();
            return "done";
        }
        sleep_ms(5);
    }
    *ret = pgq_fail("TimeoutError", "nobody opened the gate");
    return "gate-timeout";
}

/* Runs until it is told to give up. */
static const char *do_watch(pgq_job *job, pgq_outcome *ret)
{
    for (int64_t end = monotonic_ns() + (int64_t)GATE_SECONDS * 1000000000; monotonic_ns() < end;) {
        if (pgq_job_cancelled(job)) {
            *ret = pgq_cancelled();
            return "cancelled";
        }
        sleep_ms(5);
    }
    *ret = pgq_fail("TimeoutError", "nobody cancelled the job");
    return "watch-timeout";
}

static const char *do_cancelled(pgq_job *job, pgq_outcome *ret)
{
    (void)job;
    *ret = pgq_cancelled();
    return "cancelled";
}

static const char *do_fail(pgq_job *job, pgq_outcome *ret)
{
    (void)job;
    *ret = pgq_fail("ValueError", "boom");
    return "failed";
}

static const char *do_fail_invalid_utf8(pgq_job *job, pgq_outcome *ret)
{
    (void)job;
    *ret =
        pgq_fail("Odd\xffType", "text \xff\xfe with \x01 control \xc3( and \xed\xa0\x80 surrogate");
    return "failed";
}

static const char *do_fail_null(pgq_job *job, pgq_outcome *ret)
{
    (void)job;
    *ret = pgq_fail(NULL, NULL);
    return "failed";
}

static const char *fail_with(size_t len, pgq_outcome *ret)
{
    char *text = malloc(len + 1);
    if (text == NULL)
        abort();
    for (size_t i = 0; i + 1 < len; i += 2)
        memcpy(text + i, "\xc3\xa9", 2);
    text[len] = '\0';
    *ret = pgq_fail("LongError", text);
    free(text);
    return "failed";
}

static const char *do_fail_long(pgq_job *job, pgq_outcome *ret)
{
    (void)job;
    return fail_with((size_t)200 * 1024, ret);
}

static const char *do_fail_10mb(pgq_job *job, pgq_outcome *ret)
{
    (void)job;
    return fail_with((size_t)10 * 1024 * 1024, ret);
}

/* The first run asks for another one after as many ms as the payload says. */
static const char *do_retry_once(pgq_job *job, pgq_outcome *ret)
{
    if (pgq_job_attempts(job) == 0) {
        *ret = pgq_retry(payload_number(job), "asked to");
        return "retry";
    }
    *ret = pgq_done();
    return "done";
}

static const char *do_retry_no_reason(pgq_job *job, pgq_outcome *ret)
{
    if (pgq_job_attempts(job) == 0) {
        *ret = pgq_retry(payload_number(job), NULL);
        return "retry";
    }
    *ret = pgq_done();
    return "done";
}

/* The same after as many ms as the payload says: for workers that are stopped meanwhile. */
static const char *do_sleep_fail(pgq_job *job, pgq_outcome *ret)
{
    sleep_ms(payload_number(job));
    return do_fail(job, ret);
}

static const char *do_sleep_retry(pgq_job *job, pgq_outcome *ret)
{
    if (pgq_job_attempts(job) > 0)
        return do_ok(job, ret);
    sleep_ms(payload_number(job));
    *ret = pgq_retry(0, "asked to");
    return "retry";
}

/* Fails until the gate is open, then succeeds: for held jobs that somebody requeues. */
static const char *do_fail_unless_open(pgq_job *job, pgq_outcome *ret)
{
    return access(gate_path, F_OK) == 0 ? do_ok(job, ret) : do_fail(job, ret);
}

typedef struct behaviour {
    const char *name;
    const char *(*run)(pgq_job *job, pgq_outcome *ret);
    pgq_on_failure on_failure;
} behaviour;

static const behaviour behaviours[] = {
    {"ok", do_ok, PGQ_ON_FAILURE_DELETE},
    {"sleep", do_sleep, PGQ_ON_FAILURE_DELETE},
    {"gate", do_gate, PGQ_ON_FAILURE_DELETE},
    {"watch", do_watch, PGQ_ON_FAILURE_DELETE},
    {"cancelled", do_cancelled, PGQ_ON_FAILURE_DELETE},
    {"fail", do_fail, PGQ_ON_FAILURE_DELETE},
    {"fail_invalid_utf8", do_fail_invalid_utf8, PGQ_ON_FAILURE_DELETE},
    {"fail_null", do_fail_null, PGQ_ON_FAILURE_DELETE},
    {"fail_long", do_fail_long, PGQ_ON_FAILURE_DELETE},
    {"fail_10mb", do_fail_10mb, PGQ_ON_FAILURE_DELETE},
    {"fail_unless_open", do_fail_unless_open, PGQ_ON_FAILURE_DELETE},
    {"hold", do_fail, PGQ_ON_FAILURE_HOLD},
    {"hold_unless_open", do_fail_unless_open, PGQ_ON_FAILURE_HOLD},
    {"sleep_fail", do_sleep_fail, PGQ_ON_FAILURE_DELETE},
    {"sleep_hold", do_sleep_fail, PGQ_ON_FAILURE_HOLD},
    {"sleep_retry", do_sleep_retry, PGQ_ON_FAILURE_DELETE},
    {"retry_once", do_retry_once, PGQ_ON_FAILURE_DELETE},
    {"retry_no_reason", do_retry_no_reason, PGQ_ON_FAILURE_DELETE},
};
static const size_t behaviour_count = sizeof behaviours / sizeof behaviours[0];

/* $JOURNAL_UNSTEADY, SLOW:OF:MS: of so many runs so many in a row take so many ms longer. */
static void be_unsteady(void)
{
    static atomic_uint runs;
    const char *text = getenv("JOURNAL_UNSTEADY");
    unsigned slow, of, ms;

    if (text != NULL && sscanf(text, "%u:%u:%u", &slow, &of, &ms) == 3 && of > 0 &&
        atomic_fetch_add(&runs, 1) % of + slow >= of)
        sleep_ms(ms);
}

static pgq_outcome handle(pgq_job *job, void *user)
{
    const behaviour *chosen = user;
    int64_t start = journal_start(job);
    pgq_outcome outcome;
    const char *name;

    be_unsteady();
    name = chosen->run(job, &outcome);

    journal_end(job, start, name);
    return outcome;
}

static pgq_code refuse(pgq_error *err, const char *message, const char *what)
{
    if (err != NULL) {
        *err = (pgq_error)PGQ_ERROR_INIT;
        err->code = PGQ_E_FACTORY;
        snprintf(err->message, sizeof err->message, "%s: %s", message, what);
    }
    return PGQ_E_FACTORY;
}

/* -- options of an entrypoint ----------------------------------------------------------------- */

typedef struct settings {
    pgq_entrypoint_options options;
    pgq_retry_config retry;
    pgq_backoff_config backoff;
} settings;

static void set_limit(settings *s, const char *value)
{
    s->options.concurrency_limit = atoi(value);
}

static void set_serialized(settings *s, const char *value)
{
    (void)value;
    s->options.serialized_dispatch = true;
}

static void set_rate(settings *s, const char *value)
{
    s->options.requests_per_second = strtod(value, NULL);
}

static void set_retry_timer(settings *s, const char *value)
{
    s->options.retry_timer_ms = atoll(value);
}

static void set_timeout(settings *s, const char *value)
{
    s->options.timeout_ms = atoll(value);
}

static void set_grace(settings *s, const char *value)
{
    s->options.timeout_grace_ms = atoll(value);
}

static void set_hold(settings *s, const char *value)
{
    (void)value;
    s->options.on_failure = PGQ_ON_FAILURE_HOLD;
}

static void set_log(settings *s, const char *value)
{
    static const char *const names[] = {"default", "full", "terminal", "failures"};

    for (int i = 0; i < 4; i++) {
        if (strcmp(names[i], value) == 0)
            s->options.log_policy = (pgq_log_policy)i;
    }
}

/* MAX_RETRIES:INITIAL_MS[:MAX_MS] */
static void set_retry_executor(settings *s, const char *value)
{
    (void)sscanf(value, "%d:%" SCNd64 ":%" SCNd64, &s->retry.max_retries,
                 &s->retry.initial_delay_ms, &s->retry.max_delay_ms);
    s->options.executor_factory = pgq_retry_executor;
    s->options.executor_config = &s->retry;
}

/* MAX_ATTEMPTS:INITIAL_MS[:MAX_TIME_MS] */
static void set_backoff(settings *s, const char *value)
{
    (void)sscanf(value, "%d:%" SCNd64 ":%" SCNd64, &s->backoff.max_attempts,
                 &s->backoff.initial_delay_ms, &s->backoff.max_time_ms);
    s->options.executor_factory = pgq_backoff_executor;
    s->options.executor_config = &s->backoff;
}

static const struct option_row {
    const char *name;
    void (*set)(settings *s, const char *value);
} option_rows[] = {
    {"limit", set_limit},     {"serialized", set_serialized},
    {"rate", set_rate},       {"retry_timer", set_retry_timer},
    {"timeout", set_timeout}, {"grace", set_grace},
    {"hold", set_hold},       {"retry_executor", set_retry_executor},
    {"backoff", set_backoff}, {"log", set_log},
};

static bool set_option(settings *s, char *text)
{
    char *equals = strchr(text, '=');

    if (equals != NULL)
        *equals = '\0';
    for (size_t i = 0; i < sizeof option_rows / sizeof option_rows[0]; i++) {
        if (strcmp(option_rows[i].name, text) == 0) {
            option_rows[i].set(s, equals == NULL ? "" : equals + 1);
            return true;
        }
    }
    return false;
}

/* Takes `text`, which it changes, apart. */
static pgq_code add(pgq_worker *worker, char *text, pgq_error *err)
{
    settings s = {PGQ_ENTRYPOINT_OPTIONS_INIT, PGQ_RETRY_CONFIG_INIT, PGQ_BACKOFF_CONFIG_INIT};
    char *rest = text, *name = strsep(&rest, ","), *chosen = strchr(name, '='), *option;

    if (chosen != NULL)
        *chosen++ = '\0';
    else
        chosen = name;
    for (size_t i = 0; i < behaviour_count; i++) {
        if (strcmp(behaviours[i].name, chosen) == 0) {
            s.options.on_failure = behaviours[i].on_failure;
            while ((option = strsep(&rest, ",")) != NULL)
                if (!set_option(&s, option))
                    return refuse(err, "no such option", option);
            return pgq_worker_entrypoint(worker, name, handle, (void *)(uintptr_t)&behaviours[i],
                                         &s.options, err);
        }
    }
    return refuse(err, "no such behaviour", chosen);
}

static pgq_code add_text(pgq_worker *worker, const char *text, pgq_error *err)
{
    char *copy = strdup(text);
    pgq_code code = copy == NULL ? PGQ_E_NOMEM : add(worker, copy, err);

    free(copy);
    return code;
}

pgq_code factory(pgq_worker *worker, int argc, char **argv, pgq_error *err);
pgq_code factory(pgq_worker *worker, int argc, char **argv, pgq_error *err)
{
    pgq_code code = PGQ_OK;

    if (argc < 1)
        return refuse(err, "the journal's path is missing", "argument 1");
    journal_fd = open(argv[0], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (journal_fd < 0)
        return refuse(err, argv[0], strerror(errno));
    snprintf(gate_path, sizeof gate_path, "%s.gate", argv[0]);
    if (argc == 1)
        for (size_t i = 0; i < behaviour_count && code == PGQ_OK; i++)
            code = add_text(worker, behaviours[i].name, err);
    for (int i = 1; i < argc && code == PGQ_OK; i++)
        code = add_text(worker, argv[i], err);
    return code;
}

/* A factory that refuses, and one that registers nothing. */
pgq_code refusing_factory(pgq_worker *worker, int argc, char **argv, pgq_error *err);
pgq_code refusing_factory(pgq_worker *worker, int argc, char **argv, pgq_error *err)
{
    (void)worker;
    (void)argc;
    (void)argv;
    return refuse(err, "the factory does not want to", "reason 42");
}

pgq_code empty_factory(pgq_worker *worker, int argc, char **argv, pgq_error *err);
pgq_code empty_factory(pgq_worker *worker, int argc, char **argv, pgq_error *err)
{
    (void)worker;
    (void)argc;
    (void)argv;
    (void)err;
    return PGQ_OK;
}
