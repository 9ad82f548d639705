/* Getting a connection: hosts, deadlines, refusals. Fakes only for what a server cannot be made to
 * show. */
#include "unit.h"
#include "server.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "pg/conn.h"

/* A socket on the loopback, bound to a port that nobody else has; listening if asked. */
static int bind_socket(bool listening, int *ret_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    if (listening)
        assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    *ret_port = ntohs(address.sin_port);
    return fd;
}

static pgq_code try_open(const char *dsn, int timeout_ms, pgq_error *err, int64_t *ret_took_us)
{
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;
    pgq_client *client = NULL;
    int64_t before_us = clock_monotonic_us();
    pgq_code code;

    *err = (pgq_error)PGQ_ERROR_INIT;
    options.dsn = dsn;
    options.connect_timeout_ms = timeout_ms;
    code = pgq_client_open(&options, &client, err);
    *ret_took_us = clock_monotonic_us() - before_us;
    assert_true((client != NULL) == (code == PGQ_OK));
    (void)pgq_client_free(client);
    return code;
}

static void a_port_that_accepts_and_never_answers_costs_its_deadline(void **state)
{
    int port, fd = bind_socket(true, &port);
    pgq_error err;
    char dsn[128];
    int64_t took_us;

    (void)state;
    (void)snprintf(dsn, sizeof(dsn), "host=127.0.0.1 port=%d sslmode=disable", port);
    expect_code(PGQ_E_CONNECT, try_open(dsn, 200, &err, &took_us), &err);
    assert_in_range(took_us, 200000, 5000000);
    assert_true(err.retryable);
    assert_non_null(strstr(err.message, "in time"));
    assert_non_null(strstr(err.where, "127.0.0.1"));
    (void)close(fd);
}

static void a_port_that_nobody_has_is_refused_at_once(void **state)
{
    int port, fd = bind_socket(false, &port);
    pgq_error err;
    char dsn[128];
    int64_t took_us;

    (void)state;
    (void)snprintf(dsn, sizeof(dsn), "host=127.0.0.1 port=%d", port);
    expect_code(PGQ_E_CONNECT, try_open(dsn, 20000, &err, &took_us), &err);
    assert_true(took_us < 10000000);
    assert_true(err.retryable && err.hint[0] != '\0');
    /* a name with several addresses: all are tried */
    (void)snprintf(dsn, sizeof(dsn), "host=localhost port=%d", port);
    expect_code(PGQ_E_CONNECT, try_open(dsn, 20000, &err, &took_us), &err);
    assert_non_null(strstr(err.where, "localhost"));
    (void)close(fd);
}

static void a_name_that_does_not_resolve_is_said_to(void **state)
{
    pgq_error err;
    int64_t took_us;

    (void)state;
    expect_code(PGQ_E_CONNECT, try_open("host=no-such-host.invalid", 20000, &err, &took_us), &err);
    assert_non_null(strstr(err.message, "resolve"));
    assert_non_null(strstr(err.where, "no-such-host.invalid"));
}

static void the_next_host_is_tried_after_one_that_hangs_and_one_that_refuses(void **state)
{
    const database *d = *state;
    int hanging_port, refusing_port, port = 5432;
    int hanging = bind_socket(true, &hanging_port), refusing = bind_socket(false, &refusing_port);
    pgq_error err;
    char dsn[512];
    int64_t took_us;

    (void)snprintf(dsn, sizeof(dsn),
                   "host=127.0.0.1,127.0.0.1,%s port=%d,%d,%d user=postgres dbname=%s "
                   "sslmode=disable",
                   server_socket_directory(), hanging_port, refusing_port, port, d->name);
    expect_ok(try_open(dsn, 2000, &err, &took_us), &err);
    assert_in_range(took_us, 2000000, 10000000);
    (void)close(hanging);
    (void)close(refusing);
}

static void what_the_server_refuses_is_said_with_its_words(void **state)
{
    pgq_error err;
    char dsn[256];
    int64_t took_us;

    (void)state;
    (void)snprintf(dsn, sizeof(dsn), "host=%s user=postgres dbname=no_such_database",
                   server_socket_directory());
    expect_code(PGQ_E_CONNECT, try_open(dsn, 10000, &err, &took_us), &err);
    assert_non_null(strstr(err.message, "no_such_database"));
    (void)snprintf(dsn, sizeof(dsn), "host=%s user=no_such_role dbname=postgres",
                   server_socket_directory());
    expect_code(PGQ_E_CONNECT, try_open(dsn, 10000, &err, &took_us), &err);
    assert_non_null(strstr(err.message, "no_such_role"));
    (void)setenv("PGSERVICE", "no_such_service", 1);
    expect_code(PGQ_E_CONNECT, try_open("dbname=x", 10000, &err, &took_us), &err);
    assert_non_null(strstr(err.message, "no_such_service"));
    (void)unsetenv("PGSERVICE");
}

static void the_session_must_be_what_target_session_attrs_asks_for(void **state)
{
    static const struct {
        const char *attrs;
        pgq_code writable, read_only;
    } rows[] = {
        {"any", PGQ_OK, PGQ_OK},
        {"read-write", PGQ_OK, PGQ_E_CONNECT},
        {"read-only", PGQ_E_CONNECT, PGQ_OK},
        {"primary", PGQ_OK, PGQ_OK},
        {"standby", PGQ_E_CONNECT, PGQ_E_CONNECT},
        {"prefer-standby", PGQ_OK, PGQ_OK},
    };
    const database *d = *state;

    for (int read_only = 0; read_only < 2; read_only++) {
        sql_run(d->sql, "ALTER DATABASE %s SET default_transaction_read_only = %s", d->name,
                read_only != 0 ? "on" : "off");
        for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
            pgq_error err;
            char dsn[SERVER_DSN_BYTES + 64];
            int64_t took_us;

            (void)snprintf(dsn, sizeof(dsn), "%s target_session_attrs=%s", d->dsn, rows[i].attrs);
            expect_code(read_only != 0 ? rows[i].read_only : rows[i].writable,
                        try_open(dsn, 10000, &err, &took_us), &err);
        }
    }
}

/* A server that says one thing and closes: for what a real one cannot be made to show. */
typedef struct fake {
    int fd;
    const char *bytes;
    size_t len;
    pthread_t thread;
} fake;

static void *fake_main(void *argument)
{
    fake *f = argument;
    char in[512];
    int fd;

    while ((fd = accept(f->fd, NULL, NULL)) >= 0) {
        if (read(fd, in, sizeof(in)) > 0 && write(fd, f->bytes, f->len) > 0)
            (void)shutdown(fd, SHUT_WR);
        while (read(fd, in, sizeof(in)) > 0)
            continue;
        (void)close(fd);
    }
    return NULL;
}

static pgq_code open_fake(const char *bytes, size_t len, pgq_error *err)
{
    fake f = {.bytes = bytes, .len = len};
    char dsn[160];
    int port;
    int64_t took_us;
    pgq_code code;

    f.fd = bind_socket(true, &port);
    assert_int_equal(pthread_create(&f.thread, NULL, fake_main, &f), 0);
    (void)snprintf(dsn, sizeof(dsn),
                   "host=127.0.0.1 port=%d user=u password=hunter2 sslmode=disable "
                   "gssencmode=disable",
                   port);
    code = try_open(dsn, 5000, err, &took_us);
    assert_true(took_us < 5000000);
    (void)shutdown(f.fd, SHUT_RDWR);
    assert_int_equal(pthread_join(f.thread, NULL), 0);
    (void)close(f.fd);
    assert_null(strstr(err->message, "hunter2"));
    return code;
}

#define BYTES(text) text, sizeof(text) - 1

static void a_refused_login_is_an_error_of_its_own(void **state)
{
    pgq_error err;

    (void)state;
    expect_code(PGQ_E_AUTH,
                open_fake(BYTES("E\0\0\0\x3FSFATAL\0VFATAL\0C28P01\0Mpassword authentication "
                                "failed for user \"u\"\0\0"),
                          &err),
                &err);
    assert_non_null(strstr(err.hint, "pg_hba.conf"));
}

static void a_server_before_release_14_is_refused(void **state)
{
    pgq_error err;

    (void)state;
    expect_code(PGQ_E_CONNECT,
                open_fake(BYTES("R\0\0\0\x08\0\0\0\0S\0\0\0\x18server_version\0"
                                "13.7\0Z\0\0\0\x05I"),
                          &err),
                &err);
    assert_non_null(strstr(err.message, "older"));
}

static void a_port_that_speaks_another_protocol_is_refused(void **state)
{
    pgq_error err;

    (void)state;
    expect_code(PGQ_E_CONNECT, open_fake(BYTES("SSH-2.0-OpenSSH_9.2\r\n"), &err), &err);
    expect_code(PGQ_E_CONNECT, open_fake(BYTES("R\0\0\0\x08\0\0"), &err), &err);
    expect_code(PGQ_E_CONNECT, open_fake(BYTES("\0"), &err), &err);
}

static void a_connection_can_be_let_go_while_its_name_is_resolved(void **state)
{
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    options.dsn = "host=no-such-host.invalid,localhost port=1";
    for (int i = 0; i < 20; i++) {
        target t;
        pg_conn *conn;

        expect_ok(target_parse(&options, &t, &err), &err);
        assert_int_equal(pg_conn_new(&t, NULL, &conn), PGQ_OK);
        assert_int_equal(pg_conn_state(conn), PG_DOWN);
        pg_conn_connect(conn, clock_monotonic_us());
        assert_int_equal(pg_conn_state(conn), PG_CONNECTING);
        assert_true(pg_conn_fd(conn) >= 0);
        assert_true(pg_conn_deadline_us(conn) != CLOCK_NEVER);
        if (i % 2 == 0) {
            pg_conn_close(conn);
            assert_int_equal(pg_conn_state(conn), PG_DOWN);
            assert_int_equal(pg_conn_fd(conn), -1);
        }
        assert_null(pg_conn_free(conn));
        target_release(&t);
    }
}

static void options_out_of_range_are_refused_before_anything_is_sent(void **state)
{
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;
    pgq_client *client = NULL;
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    options.call_timeout_ms = -1;
    expect_code(PGQ_E_INVALID, pgq_client_open(&options, &client, &err), &err);
    options.call_timeout_ms = 0;
    options.log_policy = (pgq_log_policy)(PGQ_LOG_POLICY_FAILURES + 1);
    expect_code(PGQ_E_INVALID, pgq_client_open(&options, &client, &err), &err);
    options.log_policy = PGQ_LOG_POLICY_DEFAULT;
    options.connect_timeout_ms = 0;
    expect_code(PGQ_E_INVALID, pgq_client_open(&options, &client, &err), &err);
    options.struct_size = 3;
    expect_code(PGQ_E_INVALID, pgq_client_open(&options, &client, &err), &err);
    assert_null(client);
    assert_null(pgq_client_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_port_that_accepts_and_never_answers_costs_its_deadline),
        cmocka_unit_test(a_port_that_nobody_has_is_refused_at_once),
        cmocka_unit_test(a_name_that_does_not_resolve_is_said_to),
        cmocka_unit_test_setup_teardown(
            the_next_host_is_tried_after_one_that_hangs_and_one_that_refuses, database_setup,
            database_teardown),
        cmocka_unit_test(what_the_server_refuses_is_said_with_its_words),
        cmocka_unit_test_setup_teardown(the_session_must_be_what_target_session_attrs_asks_for,
                                        database_setup, database_teardown),
        cmocka_unit_test(a_refused_login_is_an_error_of_its_own),
        cmocka_unit_test(a_server_before_release_14_is_refused),
        cmocka_unit_test(a_port_that_speaks_another_protocol_is_refused),
        cmocka_unit_test(a_connection_can_be_let_go_while_its_name_is_resolved),
        cmocka_unit_test(options_out_of_range_are_refused_before_anything_is_sent),
    };

    return server_start() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
