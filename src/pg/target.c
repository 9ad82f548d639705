#include "pg/target.h"
#include "base/error.h"
#include "pg/pq.h"

#include <stdio.h>

/* The options that a DSN or the environment gives and that we take out of libpq's hands. */
typedef struct taken_options {
    const char *host, *hostaddr, *port, *attrs, *service;
} taken_options;

static const struct {
    const char *name;
    session_attrs attrs;
} attrs_names[] = {
    {"any", SESSION_ANY},
    {"read-write", SESSION_READ_WRITE},
    {"read-only", SESSION_READ_ONLY},
    {"primary", SESSION_PRIMARY},
    {"standby", SESSION_STANDBY},
    {"prefer-standby", SESSION_PREFER_STANDBY},
};

static pgq_code parse_attrs(const char *text, session_attrs *ret_attrs, pgq_error *err)
{
    if (!base_given(text)) {
        *ret_attrs = SESSION_ANY;
        return PGQ_OK;
    }
    for (size_t i = 0; i < BASE_COUNT(attrs_names); i++) {
        if (base_streq(text, attrs_names[i].name)) {
            *ret_attrs = attrs_names[i].attrs;
            return PGQ_OK;
        }
    }
    (void)error_set(err, PGQ_E_INVALID, "target_session_attrs is not known: %.40s", text);
    error_hint(err, "any, read-write, read-only, primary, standby or prefer-standby");
    return PGQ_E_INVALID;
}

/* Adds a keyword for libpq. The array keeps room for host, hostaddr, port and the final NULL. */
static pgq_code add_option(target *t, const char *keyword, const char *value)
{
    if (t->option_count + 5 > TARGET_OPTIONS_MAX)
        return PGQ_E_LIMIT;
    t->keywords[t->option_count] = arena_strdup(&t->memory, keyword);
    t->values[t->option_count] = arena_strdup(&t->memory, value);
    if (t->keywords[t->option_count] == NULL || t->values[t->option_count] == NULL)
        return PGQ_E_NOMEM;
    t->option_count++;
    return PGQ_OK;
}

/* Where an option that we take lands; NULL for those that stay libpq's. */
static const char **taken_option(taken_options *taken, const char *keyword)
{
    if (base_streq(keyword, "host"))
        return &taken->host;
    if (base_streq(keyword, "hostaddr"))
        return &taken->hostaddr;
    if (base_streq(keyword, "port"))
        return &taken->port;
    if (base_streq(keyword, "target_session_attrs"))
        return &taken->attrs;
    if (base_streq(keyword, "service"))
        return &taken->service;
    return NULL;
}

/* Reads options that have a value; with `all` the others go to libpq's array too. What was taken
 * from an earlier list is kept. */
static pgq_code read_options(target *t, const PQconninfoOption *options, bool all,
                             taken_options *taken)
{
    pgq_code code = PGQ_OK;

    for (; code == PGQ_OK && options->keyword != NULL; options++) {
        const char **place = taken_option(taken, options->keyword);

        if (!base_given(options->val))
            continue;
        if (place == NULL) {
            if (all)
                code = add_option(t, options->keyword, options->val);
        } else if (*place == NULL) {
            *place = arena_strdup(&t->memory, options->val);
            if (*place == NULL)
                code = PGQ_E_NOMEM;
        }
    }
    return code;
}

/* The i-th item of a comma-separated list; NULL when it is empty or not there. */
static char *list_item(arena *a, const char *text, size_t index, bool *ret_nomem)
{
    size_t len;
    char *item;

    if (text == NULL)
        return NULL;
    for (; index > 0; index--) {
        text = strchr(text, ',');
        if (text == NULL)
            return NULL;
        text++;
    }
    len = strcspn(text, ",");
    if (len == 0)
        return NULL;
    item = arena_strndup(a, text, len);
    if (item == NULL)
        *ret_nomem = true;
    return item;
}

static size_t list_length(const char *text)
{
    size_t count = 1;

    if (text == NULL)
        return 0;
    for (; *text != '\0'; text++)
        count += *text == ',';
    return count;
}

static pgq_code split_hosts(target *t, const taken_options *taken, pgq_error *err)
{
    size_t hosts = list_length(taken->host), addrs = list_length(taken->hostaddr);
    size_t ports = list_length(taken->port), count = addrs > 0 ? addrs : hosts;
    bool nomem = false;

    if (count == 0)
        count = 1;
    if (hosts > 0 && addrs > 0 && hosts != addrs)
        return error_set(err, PGQ_E_INVALID, "the DSN has %zu hosts but %zu hostaddrs", hosts,
                         addrs);
    if (ports > 1 && ports != count)
        return error_set(err, PGQ_E_INVALID, "the DSN has %zu ports for %zu hosts", ports, count);
    if (count > TARGET_HOSTS_MAX)
        return error_set(err, PGQ_E_LIMIT, "the DSN has %zu hosts; at most %d are used", count,
                         TARGET_HOSTS_MAX);
    for (size_t i = 0; i < count; i++) {
        t->hosts[i].host = list_item(&t->memory, taken->host, i, &nomem);
        t->hosts[i].hostaddr = list_item(&t->memory, taken->hostaddr, i, &nomem);
        t->hosts[i].port = list_item(&t->memory, taken->port, ports > 1 ? i : 0, &nomem);
    }
    t->host_count = count;
    return nomem ? error_nomem(err) : PGQ_OK;
}

/* A machine that vanishes sends no goodbye; without these a session waits for hours. They are
 * shorter than the heartbeat timeout, so that a worker has another connection in time to beat. */
static pgq_code add_our_options(target *t, const pgq_connect_options *options)
{
    static const char *const defaults[][2] = {
        {"keepalives_idle", "10"},     {"keepalives_interval", "5"}, {"keepalives_count", "2"},
        {"tcp_user_timeout", "20000"}, {"client_encoding", "UTF8"},
    };
    pgq_code code = PGQ_OK;

    for (size_t i = 0; code == PGQ_OK && i < BASE_COUNT(defaults); i++) {
        bool given = false;

        for (size_t k = 0; k < t->option_count; k++)
            given = given || base_streq(t->keywords[k], defaults[i][0]);
        if (!given || base_streq(defaults[i][0], "client_encoding"))
            code = add_option(t, defaults[i][0], defaults[i][1]);
    }
    if (code == PGQ_OK && base_given(options->application_name))
        code = add_option(t, "application_name", options->application_name);
    if (code == PGQ_OK)
        code = add_option(t, "fallback_application_name", "pgqueuer");
    return code;
}

static pgq_code read_sources(target *t, const PQconninfoOption *parsed,
                             const PQconninfoOption *environment,
                             const pgq_connect_options *options, pgq_error *err)
{
    taken_options taken = {NULL, NULL, NULL, NULL, NULL};
    pgq_code code = PGQ_OK;

    if (parsed != NULL)
        code = read_options(t, parsed, true, &taken);
    /* an entry of the service file that the DSN names stays libpq's to read, hosts and all */
    if (code == PGQ_OK && taken.service != NULL)
        code = add_option(t, "service", taken.service);
    else if (code == PGQ_OK)
        code = read_options(t, environment, false, &taken);
    if (code == PGQ_OK)
        code = add_our_options(t, options);
    if (code == PGQ_E_NOMEM)
        return error_nomem(err);
    if (code != PGQ_OK)
        return error_set(err, code, "the DSN has too many options");
    code = parse_attrs(taken.attrs, &t->attrs, err);
    return code == PGQ_OK ? split_hosts(t, &taken, err) : code;
}

pgq_code target_parse(const pgq_connect_options *options, target *ret_target, pgq_error *err)
{
    target t = {.memory = ARENA_INIT};
    PQconninfoOption *parsed = NULL, *environment;
    char *reason = NULL;
    pgq_code code;

    if (options->connect_timeout_ms < 1)
        return error_set(err, PGQ_E_INVALID, "connect_timeout_ms must be at least 1, is %d",
                         options->connect_timeout_ms);
    t.connect_timeout_us = (int64_t)options->connect_timeout_ms * 1000;
    if (base_given(options->dsn)) {
        parsed = PQconninfoParse(options->dsn, &reason);
        if (parsed == NULL) {
            code = reason != NULL ? PGQ_E_INVALID : PGQ_E_NOMEM;
            PQfreemem(reason);
            /* libpq's reason repeats parts of the DSN, which may hold a password */
            (void)error_set(err, code, "the DSN cannot be parsed");
            error_hint(err, "write it as postgresql://user@host:5432/database or as "
                            "'host=... dbname=...'; escape special characters of a password");
            return code;
        }
    }
    /* a PGSERVICE that does not exist is reported by the attempt to connect */
    environment = PQconndefaults();
    if (environment == NULL)
        code = error_nomem(err);
    else
        code = read_sources(&t, parsed, environment, options, err);
    PQconninfoFree(parsed);
    PQconninfoFree(environment);
    if (code != PGQ_OK) {
        arena_release(&t.memory);
        return code;
    }
    *ret_target = t;
    return PGQ_OK;
}

void target_release(target *t)
{
    arena_release(&t->memory);
    *t = (target){.memory = ARENA_INIT};
}
