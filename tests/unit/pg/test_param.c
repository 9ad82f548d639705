/* Parameters and results: each value goes to a real server and comes back. */
#include "unit.h"
#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pg/param.h"
#include "pg/pq.h"
#include "pg/result.h"

/* Runs SELECT with the parameters, all in the binary format, as a pg_result. */
static pg_result ask(const database *d, const char *sql, const params *p, const pg_oid *types)
{
    const char *values[STATEMENT_PARAMS_MAX];
    int formats[STATEMENT_PARAMS_MAX];
    Oid oids[STATEMENT_PARAMS_MAX];
    PGresult *result;

    assert_true(params_bind(p, values, formats));
    for (int i = 0; i < p->count; i++)
        oids[i] = (Oid)types[i];
    result = PQexecParams(d->sql, sql, p->count, oids, values, p->len, formats, 1);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(d->sql));
    return result_of(result);
}

static void every_int4_comes_back(void **state)
{
    static const int32_t values[] = {0, 1, -1, 127, 128, -129, 65536, INT32_MAX, INT32_MIN};
    params p = PARAMS_INIT;

    for (size_t i = 0; i < UNIT_COUNT(values); i++) {
        pg_result r;

        params_clear(&p);
        param_int4(&p, values[i]);
        r = ask(*state, "SELECT $1, $1::text", &p, (const pg_oid[]){PG_OID_INT4});
        assert_int_equal(result_int4(&r, 0, 0), values[i]);
        assert_int_equal(strtol(result_text(&r, 0, 1), NULL, 10), values[i]);
        assert_false(r.malformed);
        result_release(&r);
    }
    params_release(&p);
}

static void every_int8_and_timestamp_comes_back(void **state)
{
    static const int64_t values[] = {0, 1, -1, 1 << 20, -((int64_t)1 << 40), 252455616000000000};
    params p = PARAMS_INIT;

    for (size_t i = 0; i < UNIT_COUNT(values); i++) {
        pg_result r;

        params_clear(&p);
        param_int8(&p, values[i]);
        param_timestamp(&p, values[i]);
        r = ask(*state,
                "SELECT $1, $2, $1::text, "
                "(extract(epoch FROM $2 - '2000-01-01 UTC'::timestamptz) * 1000000)::int8",
                &p, (const pg_oid[]){PG_OID_INT8, PG_OID_TIMESTAMPTZ});
        assert_true(result_int8(&r, 0, 0) == values[i]);
        assert_true(result_timestamp(&r, 0, 1) == values[i]);
        assert_true(strtoll(result_text(&r, 0, 2), NULL, 10) == values[i]);
        assert_true(result_int8(&r, 0, 3) == values[i]);
        assert_false(r.malformed);
        result_release(&r);
    }
    params_clear(&p);
    param_int8(&p, INT64_MAX);
    param_int8(&p, INT64_MIN);
    {
        pg_result r = ask(*state, "SELECT $1, $2", &p, (const pg_oid[]){PG_OID_INT8, PG_OID_INT8});

        assert_true(result_int8(&r, 0, 0) == INT64_MAX);
        assert_true(result_int8(&r, 0, 1) == INT64_MIN);
        result_release(&r);
    }
    params_release(&p);
}

static void the_epochs_distance_is_the_servers(void **state)
{
    const database *d = *state;

    assert_true(sql_number(d->sql, "SELECT (extract(epoch FROM '2000-01-01 00:00:00 UTC'"
                                   "::timestamptz) * 1000000)::int8") == PG_EPOCH_US);
}

static void bools_and_uuids_come_back(void **state)
{
    params p = PARAMS_INIT;
    uuid id;
    char text[UUID_TEXT_BYTES];
    pg_result r;
    pgq_bytes bytes;

    assert_int_equal(uuid_new(&id), PGQ_OK);
    param_bool(&p, true);
    param_bool(&p, false);
    param_uuid(&p, &id);
    r = ask(*state, "SELECT $1, $2, $3, $3::text", &p,
            (const pg_oid[]){PG_OID_BOOL, PG_OID_BOOL, PG_OID_UUID});
    assert_true(result_bool(&r, 0, 0));
    assert_false(result_bool(&r, 0, 1));
    bytes = result_bytes(&r, 0, 2);
    assert_int_equal(bytes.len, 16);
    assert_memory_equal(bytes.data, id.bytes, 16);
    assert_string_equal(result_text(&r, 0, 3), uuid_format(&id, text));
    assert_false(r.malformed);
    result_release(&r);
    params_release(&p);
}

static void bytes_come_back_with_every_value_and_length(void **state)
{
    static unsigned char all[100000];
    static const size_t sizes[] = {0, 1, 255, 256, 257, 65535, sizeof(all)};
    params p = PARAMS_INIT;

    for (size_t i = 0; i < sizeof(all); i++)
        all[i] = (unsigned char)(i * 31 % 256);
    for (size_t i = 0; i < UNIT_COUNT(sizes); i++) {
        pg_result r;
        pgq_bytes bytes;

        params_clear(&p);
        param_bytes(&p, (pgq_bytes){all, sizes[i]});
        r = ask(*state, "SELECT $1, length($1)", &p, (const pg_oid[]){PG_OID_BYTEA});
        bytes = result_bytes(&r, 0, 0);
        assert_non_null(bytes.data);
        assert_int_equal(bytes.len, sizes[i]);
        assert_int_equal(result_int4(&r, 0, 1), sizes[i]);
        if (sizes[i] > 0)
            assert_memory_equal(bytes.data, all, sizes[i]);
        result_release(&r);
    }
    params_release(&p);
}

static void a_lone_empty_value_is_not_null(void **state)
{
    params p = PARAMS_INIT;
    pg_result r;

    param_text(&p, "");
    r = ask(*state, "SELECT $1, $1 IS NULL", &p, (const pg_oid[]){PG_OID_TEXT});
    assert_false(result_bool(&r, 0, 1));
    assert_string_equal(result_text(&r, 0, 0), "");
    result_release(&r);
    params_release(&p);
}

static void nulls_are_null_of_every_type(void **state)
{
    params p = PARAMS_INIT;
    pg_result r;

    param_null(&p);
    param_text(&p, NULL);
    param_bytes(&p, (pgq_bytes){NULL, 0});
    r = ask(*state, "SELECT $1, $2, $3, $1 IS NULL AND $2 IS NULL AND $3 IS NULL", &p,
            (const pg_oid[]){PG_OID_INT8, PG_OID_TEXT, PG_OID_BYTEA});
    assert_true(result_bool(&r, 0, 3));
    assert_true(result_is_null(&r, 0, 0));
    assert_null(result_text(&r, 0, 1));
    assert_null(result_bytes(&r, 0, 2).data);
    assert_false(r.malformed);
    result_release(&r);
    params_release(&p);
}

static void arrays_come_back_with_their_nulls(void **state)
{
    params p = PARAMS_INIT;
    pg_result r;

    param_array_begin(&p, PG_OID_INT4, 3);
    element_int4(&p, -5);
    element_null(&p);
    element_int4(&p, 7);
    param_array_end(&p);
    param_array_begin(&p, PG_OID_INT8, 2);
    element_int8(&p, INT64_MIN);
    element_int8(&p, INT64_MAX);
    param_array_end(&p);
    param_array_begin(&p, PG_OID_TEXT, 4);
    element_text(&p, "a,b\"c");
    element_text(&p, NULL);
    element_text(&p, "");
    element_text(&p, "\xC3\xA9");
    param_array_end(&p);
    param_array_begin(&p, PG_OID_BYTEA, 3);
    element_bytes(&p, (pgq_bytes){"\0\xFF", 2});
    element_bytes(&p, (pgq_bytes){NULL, 0});
    element_bytes(&p, (pgq_bytes){"", 0});
    param_array_end(&p);
    param_array_begin(&p, PG_OID_JSONB, 2);
    element_jsonb(&p, "{\"a\": [1, null]}", 16);
    element_null(&p);
    param_array_end(&p);
    param_array_begin(&p, PG_OID_TIMESTAMPTZ, 1);
    element_int8(&p, 1000000);
    param_array_end(&p);
    r = ask(*state,
            "SELECT $1::text, $2::text, $3::text, $4::text, $5::text, "
            "($6)[1] AT TIME ZONE 'UTC' = '2000-01-01 00:00:01'",
            &p,
            (const pg_oid[]){PG_OID_INT4_ARRAY, PG_OID_INT8_ARRAY, PG_OID_TEXT_ARRAY,
                             PG_OID_BYTEA_ARRAY, PG_OID_JSONB_ARRAY, PG_OID_TIMESTAMPTZ_ARRAY});
    assert_string_equal(result_text(&r, 0, 0), "{-5,NULL,7}");
    assert_string_equal(result_text(&r, 0, 1), "{-9223372036854775808,9223372036854775807}");
    assert_string_equal(result_text(&r, 0, 2), "{\"a,b\\\"c\",NULL,\"\",\xC3\xA9}");
    assert_string_equal(result_text(&r, 0, 3), "{\"\\\\x00ff\",NULL,\"\\\\x\"}");
    assert_string_equal(result_text(&r, 0, 4), "{\"{\\\"a\\\": [1, null]}\",NULL}");
    assert_true(result_bool(&r, 0, 5));
    result_release(&r);
    params_release(&p);
}

static void empty_arrays_are_empty_not_null(void **state)
{
    static const pg_oid element_types[] = {PG_OID_TEXT, PG_OID_INT8, PG_OID_JSONB};
    params p = PARAMS_INIT;
    pg_result r;

    for (size_t i = 0; i < UNIT_COUNT(element_types); i++) {
        param_array_begin(&p, element_types[i], 0);
        param_array_end(&p);
    }
    r = ask(*state, "SELECT $1 = '{}' AND $2 = '{}' AND $3 = '{}', cardinality($1)", &p,
            (const pg_oid[]){PG_OID_TEXT_ARRAY, PG_OID_INT8_ARRAY, PG_OID_JSONB_ARRAY});
    assert_true(result_bool(&r, 0, 0));
    assert_int_equal(result_int4(&r, 0, 1), 0);
    result_release(&r);
    params_release(&p);
}

static void a_large_array_comes_back_in_order(void **state)
{
    params p = PARAMS_INIT;
    pg_result r;

    param_array_begin(&p, PG_OID_INT8, 50000);
    for (int64_t i = 0; i < 50000; i++)
        element_int8(&p, i * i);
    param_array_end(&p);
    r = ask(*state,
            "SELECT count(*), bool_and(v = (o - 1) * (o - 1)) "
            "FROM unnest($1) WITH ORDINALITY AS t (v, o)",
            &p, (const pg_oid[]){PG_OID_INT8_ARRAY});
    assert_int_equal(result_int8(&r, 0, 0), 50000);
    assert_true(result_bool(&r, 0, 1));
    result_release(&r);
    params_release(&p);
}

static void a_broken_set_does_not_bind(void **state)
{
    const char *values[STATEMENT_PARAMS_MAX];
    int formats[STATEMENT_PARAMS_MAX];
    params p = PARAMS_INIT;

    (void)state;
    param_array_begin(&p, PG_OID_INT8, (size_t)INT32_MAX + 1);
    param_array_end(&p);
    assert_false(params_bind(&p, values, formats));
    params_clear(&p);
    assert_true(params_bind(&p, values, formats));
    param_array_begin(&p, PG_OID_BYTEA, 1);
    element_bytes(&p, (pgq_bytes){"", (size_t)INT32_MAX + 1});
    param_array_end(&p);
    assert_false(params_bind(&p, values, formats));
    params_clear(&p);
    param_array_begin(&p, PG_OID_JSONB, 1);
    element_jsonb(&p, "{}", INT32_MAX);
    param_array_end(&p);
    assert_false(params_bind(&p, values, formats));
    params_release(&p);
}

static void reading_another_shape_gives_zero_and_the_mark(void **state)
{
    params p = PARAMS_INIT;
    pg_result r;

    param_int4(&p, 5);
    r = ask(*state, "SELECT $1, NULL::int8, 'x'::text, '[]'::text", &p,
            (const pg_oid[]){PG_OID_INT4});
    assert_int_equal(result_int8(&r, 0, 0), 0); /* another length */
    assert_true(r.malformed);
    r.malformed = false;
    assert_int_equal(result_int8(&r, 0, 1), 0); /* NULL */
    assert_true(r.malformed);
    r.malformed = false;
    assert_int_equal(result_int4(&r, 1, 0), 0); /* no such row */
    assert_true(r.malformed);
    r.malformed = false;
    assert_int_equal(result_int4(&r, 0, 9), 0); /* no such column */
    assert_true(r.malformed);
    r.malformed = false;
    assert_null(result_jsonb(&r, 0, 3)); /* not jsonb */
    assert_true(r.malformed);
    r.malformed = false;
    assert_int_equal(result_int4(&r, 0, 0), 5);
    assert_false(r.malformed);
    result_release(&r);
    params_release(&p);
}

static void an_empty_result_has_no_rows_and_no_tag(void **state)
{
    pg_result r = PG_RESULT_INIT;

    (void)state;
    assert_int_equal(result_rows(&r), 0);
    assert_true(result_is_null(&r, 0, 0));
    assert_string_equal(result_tag(&r), "");
    assert_null(result_text(&r, 0, 0));
    assert_null(result_jsonb(&r, 0, 0));
    result_release(&r);
    result_release(&r);
}

static void jsonb_is_read_as_its_text(void **state)
{
    params p = PARAMS_INIT;
    pg_result r = ask(*state, "SELECT '{\"k\": 1}'::jsonb, NULL::jsonb", &p, NULL);

    assert_string_equal(result_jsonb(&r, 0, 0), "{\"k\": 1}");
    assert_null(result_jsonb(&r, 0, 1));
    assert_false(r.malformed);
    assert_string_equal(result_tag(&r), "SELECT 1");
    result_release(&r);
    params_release(&p);
}

static database shared;

static int open_shared(void **state)
{
    database_open(&shared);
    *state = &shared;
    return 0;
}

static int close_shared(void **state)
{
    database_close(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_int4_comes_back),
        cmocka_unit_test(every_int8_and_timestamp_comes_back),
        cmocka_unit_test(the_epochs_distance_is_the_servers),
        cmocka_unit_test(bools_and_uuids_come_back),
        cmocka_unit_test(bytes_come_back_with_every_value_and_length),
        cmocka_unit_test(a_lone_empty_value_is_not_null),
        cmocka_unit_test(nulls_are_null_of_every_type),
        cmocka_unit_test(arrays_come_back_with_their_nulls),
        cmocka_unit_test(empty_arrays_are_empty_not_null),
        cmocka_unit_test(a_large_array_comes_back_in_order),
        cmocka_unit_test(a_broken_set_does_not_bind),
        cmocka_unit_test(reading_another_shape_gives_zero_and_the_mark),
        cmocka_unit_test(an_empty_result_has_no_rows_and_no_tag),
        cmocka_unit_test(jsonb_is_read_as_its_text),
    };

    return server_start() ? cmocka_run_group_tests(tests, open_shared, close_shared) : 0;
}
