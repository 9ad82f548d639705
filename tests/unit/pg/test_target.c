#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pg/target.h"

/* libpq reads these; a test starts from none of them. */
static int clear_environment(void **state)
{
    static const char *const variables[] = {
        "PGHOST",     "PGHOSTADDR", "PGPORT",           "PGDATABASE",        "PGUSER",
        "PGPASSWORD", "PGSERVICE",  "PGSERVICEFILE",    "PGSYSCONFDIR",      "PGTARGETSESSIONATTRS",
        "PGAPPNAME",  "PGOPTIONS",  "PGCLIENTENCODING", "PGCONNECT_TIMEOUT",
    };

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(variables); i++)
        (void)unsetenv(variables[i]);
    return 0;
}

static pgq_code parse(const char *dsn, target *t, pgq_error *err)
{
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;

    options.dsn = dsn;
    *t = (target){.memory = ARENA_INIT};
    *err = (pgq_error)PGQ_ERROR_INIT;
    return target_parse(&options, t, err);
}

static const char *option(const target *t, const char *keyword)
{
    const char *value = NULL;

    for (size_t i = 0; i < t->option_count; i++) {
        if (strcmp(t->keywords[i], keyword) == 0)
            value = t->values[i]; /* as libpq does: the last one counts */
    }
    return value;
}

static void check_host(const target *t, size_t i, const char *host, const char *hostaddr,
                       const char *port)
{
    const char *got[] = {t->hosts[i].host, t->hosts[i].hostaddr, t->hosts[i].port};
    const char *wanted[] = {host, hostaddr, port};

    for (size_t k = 0; k < 3; k++) {
        if (wanted[k] == NULL)
            assert_null(got[k]);
        else
            assert_string_equal(got[k], wanted[k]);
    }
}

static void no_dsn_is_one_attempt_at_libpqs_defaults(void **state)
{
    target t;
    pgq_error err;

    (void)state;
    expect_ok(parse(NULL, &t, &err), &err);
    assert_int_equal(t.host_count, 1);
    /* PQconndefaults fills in the default port */
    assert_null(t.hosts[0].host);
    assert_null(t.hosts[0].hostaddr);
    assert_int_equal(t.attrs, SESSION_ANY);
    assert_int_equal(t.connect_timeout_us, 10000000);
    assert_string_equal(option(&t, "client_encoding"), "UTF8");
    assert_string_equal(option(&t, "fallback_application_name"), "pgqueuer");
    target_release(&t);
    expect_ok(parse("", &t, &err), &err);
    assert_int_equal(t.host_count, 1);
    target_release(&t);
}

static void each_host_of_a_uri_is_an_attempt_with_its_port(void **state)
{
    target t;
    pgq_error err;

    (void)state;
    expect_ok(parse("postgresql://u:p@one:1111,two,[::1]:3333/db?application_name=app", &t, &err),
              &err);
    assert_int_equal(t.host_count, 3);
    check_host(&t, 0, "one", NULL, "1111");
    check_host(&t, 1, "two", NULL, NULL);
    check_host(&t, 2, "::1", NULL, "3333");
    assert_string_equal(option(&t, "dbname"), "db");
    assert_string_equal(option(&t, "user"), "u");
    assert_string_equal(option(&t, "password"), "p");
    assert_string_equal(option(&t, "application_name"), "app");
    target_release(&t);
}

static void one_port_is_for_all_hosts(void **state)
{
    target t;
    pgq_error err;

    (void)state;
    expect_ok(parse("host=a,/run/x,@abstract port=7", &t, &err), &err);
    assert_int_equal(t.host_count, 3);
    check_host(&t, 0, "a", NULL, "7");
    check_host(&t, 1, "/run/x", NULL, "7");
    check_host(&t, 2, "@abstract", NULL, "7");
    target_release(&t);
}

static void hostaddrs_stand_beside_their_hosts(void **state)
{
    target t;
    pgq_error err;

    (void)state;
    expect_ok(parse("host=a,b hostaddr=10.0.0.1,10.0.0.2 port=1,2", &t, &err), &err);
    check_host(&t, 0, "a", "10.0.0.1", "1");
    check_host(&t, 1, "b", "10.0.0.2", "2");
    target_release(&t);
    expect_ok(parse("hostaddr=10.0.0.1,10.0.0.2", &t, &err), &err);
    assert_int_equal(t.host_count, 2);
    assert_null(t.hosts[1].host);
    target_release(&t);
}

static void counts_that_do_not_match_are_refused(void **state)
{
    static const char *const dsns[] = {
        "host=a,b hostaddr=1.1.1.1", "host=a hostaddr=1.1.1.1,2.2.2.2", "host=a,b port=1,2,3",
        "host=a port=1,2",           "target_session_attrs=sometimes",
    };
    target t;
    pgq_error err;

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(dsns); i++)
        expect_code(PGQ_E_INVALID, parse(dsns[i], &t, &err), &err);
}

static void thirty_two_hosts_are_the_most(void **state)
{
    char dsn[512] = "host=h";
    target t;
    pgq_error err;

    (void)state;
    for (int i = 1; i < TARGET_HOSTS_MAX; i++)
        (void)strncat(dsn, ",h", sizeof(dsn) - strlen(dsn) - 1);
    expect_ok(parse(dsn, &t, &err), &err);
    assert_int_equal(t.host_count, TARGET_HOSTS_MAX);
    target_release(&t);
    (void)strncat(dsn, ",h", sizeof(dsn) - strlen(dsn) - 1);
    expect_code(PGQ_E_LIMIT, parse(dsn, &t, &err), &err);
}

static void every_target_session_attrs_is_known(void **state)
{
    static const struct {
        const char *dsn;
        session_attrs attrs;
    } rows[] = {
        {"target_session_attrs=any", SESSION_ANY},
        {"target_session_attrs=read-write", SESSION_READ_WRITE},
        {"target_session_attrs=read-only", SESSION_READ_ONLY},
        {"target_session_attrs=primary", SESSION_PRIMARY},
        {"target_session_attrs=standby", SESSION_STANDBY},
        {"target_session_attrs=prefer-standby", SESSION_PREFER_STANDBY},
        {"postgresql:///x?target_session_attrs=primary", SESSION_PRIMARY},
    };
    target t;
    pgq_error err;

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        expect_ok(parse(rows[i].dsn, &t, &err), &err);
        assert_int_equal(t.attrs, rows[i].attrs);
        assert_null(option(&t, "target_session_attrs"));
        target_release(&t);
    }
}

static void the_environment_gives_what_the_dsn_does_not(void **state)
{
    target t;
    pgq_error err;

    (void)state;
    (void)setenv("PGHOST", "envhost1,envhost2", 1);
    (void)setenv("PGPORT", "4711", 1);
    (void)setenv("PGTARGETSESSIONATTRS", "standby", 1);
    expect_ok(parse("dbname=x", &t, &err), &err);
    assert_int_equal(t.host_count, 2);
    check_host(&t, 1, "envhost2", NULL, "4711");
    assert_int_equal(t.attrs, SESSION_STANDBY);
    target_release(&t);
    expect_ok(parse("host=mine target_session_attrs=any", &t, &err), &err);
    assert_int_equal(t.host_count, 1);
    check_host(&t, 0, "mine", NULL, "4711");
    assert_int_equal(t.attrs, SESSION_ANY);
    target_release(&t);
}

static void a_service_in_the_dsn_is_left_to_libpq(void **state)
{
    target t;
    pgq_error err;

    (void)state;
    (void)setenv("PGHOST", "envhost", 1);
    expect_ok(parse("service=mine", &t, &err), &err);
    assert_string_equal(option(&t, "service"), "mine");
    assert_int_equal(t.host_count, 1);
    assert_null(t.hosts[0].host);
    assert_null(t.hosts[0].port);
    target_release(&t);
}

static void a_service_file_of_the_environment_gives_the_hosts(void **state)
{
    char path[] = "/tmp/pgqs-XXXXXX";
    int fd = mkstemp(path);
    static const char text[] = "[mine]\nhost=svc1,svc2\nport=99\ndbname=svcdb\n";
    target t;
    pgq_error err;

    (void)state;
    assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
    (void)close(fd);
    (void)setenv("PGSERVICEFILE", path, 1);
    (void)setenv("PGSERVICE", "mine", 1);
    expect_ok(parse("user=me", &t, &err), &err);
    assert_int_equal(t.host_count, 2);
    check_host(&t, 1, "svc2", NULL, "99");
    target_release(&t);
    (void)unlink(path);
}

static void a_bad_dsn_is_refused_and_never_repeated(void **state)
{
    static const char *const dsns[] = {
        "host=a password=hunter2 nonsense",
        "password='hunter2",
        "postgresql://u:hunter2@[::1/db",
        "postgresql://u:hunter2@h/db?bogus=hunter2",
        "unknown_option=hunter2",
        "postgresql://u:hunter2%zz@h/db",
        "hunter2",
        "host=h target_session_attrs=any password=hunter2 port=1,2",
    };
    target t;
    pgq_error err;

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(dsns); i++) {
        expect_code(PGQ_E_INVALID, parse(dsns[i], &t, &err), &err);
        assert_null(strstr(err.message, "hunter2"));
        assert_null(strstr(err.hint, "hunter2"));
        assert_null(strstr(err.where, "hunter2"));
    }
}

static void the_dsns_own_keepalives_stay(void **state)
{
    target t;
    pgq_error err;

    (void)state;
    expect_ok(parse("keepalives_idle=5 client_encoding=LATIN1", &t, &err), &err);
    assert_string_equal(option(&t, "keepalives_idle"), "5");
    assert_string_equal(option(&t, "keepalives_interval"), "5");
    assert_string_equal(option(&t, "tcp_user_timeout"), "20000");
    assert_string_equal(option(&t, "client_encoding"), "UTF8"); /* ours is not a matter of taste */
    target_release(&t);
}

static void the_option_application_name_beats_the_dsns(void **state)
{
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;
    target t = {.memory = ARENA_INIT};
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    options.dsn = "application_name=theirs";
    options.application_name = "ours";
    expect_ok(target_parse(&options, &t, &err), &err);
    assert_string_equal(option(&t, "application_name"), "ours");
    target_release(&t);
}

static void a_timeout_below_one_is_refused(void **state)
{
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;
    target t;
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    options.connect_timeout_ms = 0;
    expect_code(PGQ_E_INVALID, target_parse(&options, &t, &err), &err);
    options.connect_timeout_ms = -1;
    expect_code(PGQ_E_INVALID, target_parse(&options, &t, &err), &err);
}

#define CASE(test) cmocka_unit_test_setup(test, clear_environment)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(no_dsn_is_one_attempt_at_libpqs_defaults),
        CASE(each_host_of_a_uri_is_an_attempt_with_its_port),
        CASE(one_port_is_for_all_hosts),
        CASE(hostaddrs_stand_beside_their_hosts),
        CASE(counts_that_do_not_match_are_refused),
        CASE(thirty_two_hosts_are_the_most),
        CASE(every_target_session_attrs_is_known),
        CASE(the_environment_gives_what_the_dsn_does_not),
        CASE(a_service_in_the_dsn_is_left_to_libpq),
        CASE(a_service_file_of_the_environment_gives_the_hosts),
        CASE(a_bad_dsn_is_refused_and_never_repeated),
        CASE(the_dsns_own_keepalives_stay),
        CASE(the_option_application_name_beats_the_dsns),
        CASE(a_timeout_below_one_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
