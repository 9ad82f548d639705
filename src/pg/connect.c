/* Getting to PG_READY: hosts in order, addresses in order, a deadline for each host. */
#include "base/clock.h"
#include "base/error.h"
#include "pg/conn_internal.h"
#include "pg/read_error.h"

#include <stdio.h>

static const target_host *current_host(const pg_conn *conn)
{
    return &conn->target->hosts[conn->attempt.host];
}

static void start_address(pg_conn *conn, int64_t now_us);
static void start_host(pg_conn *conn, int64_t now_us);

/* libpq gives no SQLSTATE for a refused login, so its text has to do. */
static pgq_code failure_code(const PGconn *pq, const char *line)
{
    static const char *const login_texts[] = {"authentication failed", "no pg_hba.conf entry",
                                              "no password supplied"};

    if (pq != NULL && PQconnectionNeedsPassword(pq) != 0)
        return PGQ_E_AUTH;
    for (size_t i = 0; i < BASE_COUNT(login_texts); i++) {
        if (strstr(line, login_texts[i]) != NULL)
            return PGQ_E_AUTH;
    }
    return PGQ_E_CONNECT;
}

static void describe_host(const target_host *host, char *text, size_t size)
{
    const char *name = host->host != NULL ? host->host : host->hostaddr;

    (void)snprintf(text, size, "%s%s%s", name != NULL ? name : "the default host",
                   host->port != NULL ? ", port " : "", host->port != NULL ? host->port : "");
}

/* Keeps why this host or address failed, and goes on to the next one. */
static void attempt_failed(pg_conn *conn, int64_t now_us, const char *reason)
{
    attempt *a = &conn->attempt;
    char line[PGQ_MESSAGE_BYTES / 2], where[PGQ_WHERE_BYTES];

    first_line(reason, line, sizeof(line));
    describe_host(current_host(conn), where, sizeof(where));
    (void)error_set(&conn->error, failure_code(conn->pq, line), "%s", line);
    error_where(&conn->error, "%s", where);
    if (conn->error.code == PGQ_E_AUTH)
        error_hint(&conn->error, "check the user and the password, and pg_hba.conf on the server");
    else
        error_hint(&conn->error, "is the server running there, and does it accept connections?");
    conn->error.retryable = true;
    conn_drop(conn);
    if (++a->address < a->addresses.count) {
        start_address(conn, now_us);
        return;
    }
    if (++a->host >= conn->target->host_count && !a->any_session &&
        conn->target->attrs == SESSION_PREFER_STANDBY) {
        a->any_session = true;
        a->host = 0;
    }
    if (a->host < conn->target->host_count)
        start_host(conn, now_us);
    else
        conn_break(conn);
}

/* Adds an option that has a value; returns how many there are then. */
static size_t add(const char **keywords, const char **values, size_t count, const char *keyword,
                  const char *value)
{
    if (value == NULL)
        return count;
    keywords[count] = keyword;
    values[count] = value;
    return count + 1;
}

static void start_address(pg_conn *conn, int64_t now_us)
{
    const target *t = conn->target;
    const target_host *host = current_host(conn);
    const char *keywords[TARGET_OPTIONS_MAX + 1], *values[TARGET_OPTIONS_MAX + 1];
    size_t count = t->option_count;
    const char *address = host->hostaddr;

    if (address == NULL && conn->attempt.addresses.count > 0)
        address = conn->attempt.addresses.addresses[conn->attempt.address];
    memcpy(keywords, t->keywords, count * sizeof(*keywords));
    memcpy(values, t->values, count * sizeof(*values));
    count = add(keywords, values, count, "host", host->host);
    count = add(keywords, values, count, "hostaddr", address);
    count = add(keywords, values, count, "port", host->port);
    count = add(keywords, values, count, "target_session_attrs", "any");
    keywords[count] = NULL;
    values[count] = NULL;
    conn->pq = PQconnectStartParams(keywords, values, 0);
    if (conn->pq == NULL) {
        attempt_failed(conn, now_us, "out of memory");
        return;
    }
    if (PQstatus(conn->pq) == CONNECTION_BAD) {
        attempt_failed(conn, now_us, PQerrorMessage(conn->pq));
        return;
    }
    conn->attempt.polling = PGRES_POLLING_WRITING; /* libpq's rule for the first wait */
}

static void start_host(pg_conn *conn, int64_t now_us)
{
    const target_host *host = current_host(conn);
    attempt *a = &conn->attempt;

    a->addresses.count = 0;
    a->address = 0;
    a->deadline_us = now_us + conn->target->connect_timeout_us;
    if (host->hostaddr != NULL || resolve_is_numeric(host->host))
        start_address(conn, now_us);
    else if (resolver_start(host->host, &a->resolver) != PGQ_OK)
        attempt_failed(conn, now_us, "cannot start a thread to resolve the host's name");
}

void conn_start_attempts(pg_conn *conn, int64_t now_us)
{
    conn->attempt = (attempt){.deadline_us = CLOCK_NEVER};
    conn_set_state(conn, PG_CONNECTING);
    start_host(conn, now_us);
}

/* NULL when the session is what the DSN asks for, else what is wrong with it. Both parameters are
 * reported by the server from release 14 on, also when they change. */
static const char *wrong_session(const pg_conn *conn)
{
    const char *standby = PQparameterStatus(conn->pq, "in_hot_standby");
    const char *read_only = PQparameterStatus(conn->pq, "default_transaction_read_only");
    bool on_standby = standby != NULL && base_streq(standby, "on");
    bool writes = !on_standby && (read_only == NULL || !base_streq(read_only, "on"));

    switch (conn->target->attrs) {
    case SESSION_READ_WRITE:
        return writes ? NULL : "the session is read-only";
    case SESSION_READ_ONLY:
        return writes ? "the session is not read-only" : NULL;
    case SESSION_PRIMARY:
        return on_standby ? "the server is a standby" : NULL;
    case SESSION_STANDBY:
        return on_standby ? NULL : "the server is not a standby";
    case SESSION_PREFER_STANDBY:
        return on_standby || conn->attempt.any_session ? NULL : "the server is not a standby";
    case SESSION_ANY:
        break;
    }
    return NULL;
}

static void connected(pg_conn *conn, int64_t now_us)
{
    const char *wrong = wrong_session(conn);

    if (wrong != NULL) {
        attempt_failed(conn, now_us, wrong);
        return;
    }
    if (PQserverVersion(conn->pq) < 140000) {
        attempt_failed(conn, now_us, "the server is older than PostgreSQL 14");
        return;
    }
    if (PQsetnonblocking(conn->pq, 1) != 0 || PQenterPipelineMode(conn->pq) == 0) {
        attempt_failed(conn, now_us, "the connection cannot be made non-blocking");
        return;
    }
    conn->error = (pgq_error)PGQ_ERROR_INIT; /* of the hosts before this one */
    conn_set_state(conn, PG_READY);
    conn_greet(conn);
}

void conn_process_attempt(pg_conn *conn, int64_t now_us)
{
    attempt *a = &conn->attempt;

    if (now_us >= a->deadline_us) {
        a->address = a->addresses.count; /* the deadline is the host's, not the address's */
        a->resolver = resolver_free(a->resolver);
        attempt_failed(conn, now_us, "the server did not answer in time");
        return;
    }
    if (a->resolver != NULL) {
        if (!resolver_answer(a->resolver, &a->addresses))
            return;
        a->resolver = resolver_free(a->resolver);
        if (a->addresses.count == 0) {
            char reason[sizeof(a->addresses.reason) + 64];

            (void)snprintf(reason, sizeof(reason), "the host's name cannot be resolved: %s",
                           a->addresses.reason);
            attempt_failed(conn, now_us, reason);
        } else {
            start_address(conn, now_us);
        }
        return;
    }
    (void)PQsetNoticeReceiver(conn->pq, conn_notice, conn);
    a->polling = PQconnectPoll(conn->pq);
    if (a->polling == PGRES_POLLING_OK)
        connected(conn, now_us);
    else if (a->polling == PGRES_POLLING_FAILED)
        attempt_failed(conn, now_us, PQerrorMessage(conn->pq));
}
