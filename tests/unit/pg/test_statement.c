/* The statements of sql/, each prepared on a real server and compared with its own file. */
#include "unit.h"
#include "server.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pgqueuer/admin.h>

#include "base/buffer.h"
#include "pg/statement.h"

enum { TYPES_MAX = 16 };

/* What a file's head says. */
typedef struct head {
    char params[TYPES_MAX][32];
    size_t param_count;
    char columns[1024]; /* the lines that begin with "-- >", joined */
} head;

static char *read_source(const statement_source *source)
{
    char path[512];
    buffer text = BUFFER_INIT;
    FILE *in;

    (void)snprintf(path, sizeof(path), "%s/%s.sql", getenv("PGQUEUER_SQL_FOLDER"), source->file);
    in = fopen(path, "re");
    if (in == NULL)
        fail_msg("%s cannot be read", path);
    for (int c = fgetc(in); c != EOF; c = fgetc(in))
        buffer_add_char(&text, (char)c);
    (void)fclose(in);
    return buffer_steal(&text);
}

/* Reads the head and returns where the statement begins. */
static const char *read_head(const char *text, head *h)
{
    *h = (head){.param_count = 0};
    while (strncmp(text, "--", 2) == 0) {
        char line[256];
        int number;
        size_t len = strcspn(text, "\n");

        (void)snprintf(line, sizeof(line), "%.*s", (int)len, text);
        if (sscanf(line, "-- $%d %31s", &number, h->params[h->param_count]) == 2)
            h->param_count++;
        else if (strncmp(line, "-- > ", 5) == 0)
            (void)strncat(h->columns, line + 4, sizeof(h->columns) - strlen(h->columns) - 1);
        text += len + (text[len] == '\n');
    }
    return text;
}

static bool ends_in(const char *line, size_t len, const char *mark)
{
    return len > strlen(mark) && memcmp(line + len - strlen(mark), mark, strlen(mark)) == 0;
}

/* A file's body without the lines of the other statement, and without the marks. */
static char *lines_of(const char *body, size_t len, bool counted)
{
    const char *mine = counted ? " -- counted" : " -- uncounted";
    const char *others = counted ? " -- uncounted" : " -- counted";
    buffer out = BUFFER_INIT;

    buffer_add_text(&out, "");
    for (const char *at = body; at < body + len;) {
        size_t line = strcspn(at, "\n");

        if (!ends_in(at, line, others)) {
            if (out.len > 0)
                buffer_add_char(&out, '\n');
            buffer_add(&out, at, ends_in(at, line, mine) ? line - strlen(mine) : line);
        }
        at += line + 1;
    }
    return buffer_steal(&out);
}

static void the_embedded_text_is_the_files_body(void **state)
{
    (void)state;
    for (size_t i = 0; i < STATEMENT_COUNT; i++) {
        char *text = read_source(&statement_sources[i]), *expected;
        const char *name = statement_sources[i].name;
        head h;
        const char *body = read_head(text, &h);
        size_t len = strlen(body);

        while (len > 0 && isspace((unsigned char)body[len - 1]))
            len--;
        if (len > 0 && body[len - 1] == ';')
            len--;
        expected = lines_of(body, len, ends_in(name, strlen(name), "_counted"));
        assert_string_equal(statement_sources[i].text, expected);
        assert_int_equal(statement_sources[i].len, strlen(expected));
        free(expected);
        assert_int_equal(statement_sources[i].param_count, h.param_count);
        for (size_t p = 0; p < h.param_count; p++)
            assert_string_equal(statement_sources[i].param_types[p], h.params[p]);
        free(text);
    }
}

static statements *make(const pgq_names *given, names *n)
{
    pgq_error err = PGQ_ERROR_INIT;
    statements *s = NULL;

    *n = (names){.memory = ARENA_INIT};
    expect_ok(names_resolve(given, n, &err), &err);
    expect_ok(statements_new(n, &s, &err), &err);
    return s;
}

static void no_placeholder_is_left_and_casts_stay(void **state)
{
    pgq_names given = PGQ_NAMES_INIT;
    names n;
    statements *s;
    const char *text;

    (void)state;
    given.schema = "app";
    given.prefix = "x_";
    given.channel = "Ch-1";
    s = make(&given, &n);
    text = s->all[STATEMENT_ENQUEUE_RAISE].text;
    assert_non_null(strstr(text, "INSERT INTO \"app\".\"x_pgqueuer\" "));
    assert_non_null(strstr(text, "pg_get_serial_sequence('\"app\".\"x_pgqueuer\"', 'id')"));
    assert_non_null(strstr(text, "unnest($1::text[], $2::bytea[]"));
    assert_non_null(
        strstr(s->all[STATEMENT_ENQUEUE_SKIP].text, "'queued'::\"app\".\"x_pgqueuer_status\""));
    assert_string_equal(s->all[STATEMENT_LISTEN].text, "LISTEN \"Ch-1\"");
    assert_non_null(strstr(s->all[STATEMENT_RELEASE_ROW].text, "'table', 'x_pgqueuer',"));
    text = s->all[STATEMENT_CLAIM_LEASE_FRONT].text;
    assert_non_null(strstr(text, "FROM \"pgqueuer_c_app_x_\".\"claims_front_seq\" AS s"));
    assert_non_null(strstr(text, "setval('\"pgqueuer_c_app_x_\".\"claims_front_seq\"',"));
    for (size_t i = 0; i < STATEMENT_COUNT; i++)
        assert_null(strstr(s->all[i].text, ":::"));
    s = statements_free(s);
    assert_null(s);
    names_release(&n);
}

static void one_statement_alone_is_the_same_as_among_all(void **state)
{
    names n;
    statements *s = make(NULL, &n);

    (void)state;
    for (size_t i = 0; i < STATEMENT_COUNT; i++) {
        arena a = ARENA_INIT;
        statement alone;
        pgq_error err = PGQ_ERROR_INIT;

        expect_ok(statement_expand(&n, (statement_id)i, &a, &alone, &err), &err);
        assert_string_equal(alone.text, s->all[i].text);
        assert_int_equal(alone.param_count, s->all[i].param_count);
        assert_memory_equal(alone.param_types, s->all[i].param_types,
                            sizeof(uint32_t) * (size_t)alone.param_count);
        arena_release(&a);
    }
    (void)statements_free(s);
    names_release(&n);
}

static void our_oids_are_the_servers(void **state)
{
    database *d = *state;

#define X(text, name, number) \
    assert_int_equal(sql_number(d->sql, "SELECT '%s'::regtype::oid", text), number);
    PG_OID_MAP(X)
#undef X
}

static const char *type_name(Oid oid)
{
#define X(text, name, number) \
    if (oid == (number))      \
        return text;
    PG_OID_MAP(X)
#undef X
    return "a type that we do not know";
}

/* Finds "name type" in the head, from *at on. An alias may avoid a word of SQL by a suffix. */
static void find_column(const char *statement_name, const char **at, const char *name, Oid type)
{
    static const char *const suffixes[] = {"", "_text", "_name"};

    for (size_t i = 0; i < UNIT_COUNT(suffixes); i++) {
        size_t len = strlen(name), cut = strlen(suffixes[i]);
        char wanted[128];
        const char *found;

        if (cut >= len || strcmp(name + len - cut, suffixes[i]) != 0)
            continue;
        (void)snprintf(wanted, sizeof(wanted), " %.*s %s", (int)(len - cut), name, type_name(type));
        found = strstr(*at, wanted);
        if (found == NULL)
            continue;
        *at = found + 1;
        return;
    }
    fail_msg("%s: the column %s %s is not in its place in the head", statement_name, name,
             type_name(type));
}

static void check_prepared(database *d, const statement *s, const head *h)
{
    PGresult *result = PQprepare(d->sql, s->name, s->text, s->param_count, s->param_types);
    const char *at = h->columns;

    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        fail_msg("%s: %s", s->name, PQerrorMessage(d->sql));
    PQclear(result);
    result = PQdescribePrepared(d->sql, s->name);
    assert_int_equal(PQnparams(result), h->param_count);
    for (int i = 0; i < PQnparams(result); i++)
        assert_string_equal(h->params[i], type_name(PQparamtype(result, i)));
    for (int i = 0; i < PQnfields(result); i++)
        find_column(s->name, &at, PQfname(result, i), PQftype(result, i));
    assert_true((PQnfields(result) == 0) == (h->columns[0] == '\0'));
    PQclear(result);
}

static void check_all(database *d, const pgq_names *given)
{
    names n;
    statements *s = make(given, &n);

    for (size_t i = 0; i < STATEMENT_COUNT; i++) {
        char *text = read_source(&statement_sources[i]);
        head h;

        (void)read_head(text, &h);
        check_prepared(d, &s->all[i], &h);
        free(text);
    }
    (void)statements_free(s);
    names_release(&n);
}

static void every_statement_prepares_with_the_types_its_head_says(void **state)
{
    database *d = *state;
    pgq_install_options options = PGQ_INSTALL_OPTIONS_INIT;
    pgq_client *client = database_client(d);
    pgq_error err = PGQ_ERROR_INIT;

    options.extras = true;
    expect_ok(pgq_schema_install(client, &options, &err), &err);
    (void)pgq_client_free(client);
    check_all(d, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_embedded_text_is_the_files_body),
        cmocka_unit_test(no_placeholder_is_left_and_casts_stay),
        cmocka_unit_test(one_statement_alone_is_the_same_as_among_all),
        cmocka_unit_test_setup_teardown(our_oids_are_the_servers, database_setup,
                                        database_teardown),
        cmocka_unit_test_setup_teardown(every_statement_prepares_with_the_types_its_head_says,
                                        database_setup, database_teardown),
    };

    return server_start() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
