/* Batches whose position is committed with them. */
#include "fixture.h"
#include "samples.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pgqueuer/admin.h>
#include <pgqueuer/import.h>

enum { MANY = 3000 }; /* by COPY */

static pgq_new_job many[MANY];

static pgq_import import;

static int open_bare(void **state)
{
    import = (pgq_import)PGQ_IMPORT_INIT;
    import.name = "mine";
    import.settings = "as they are";
    for (size_t i = 0; i < MANY; i++)
        many[i] = some_job();
    return open_fixture(state);
}

static int open_with_extras(void **state)
{
    pgq_install_options options = PGQ_INSTALL_OPTIONS_INIT;
    pgq_error err = PGQ_ERROR_INIT;

    (void)open_bare(state);
    options.extras = true;
    expect_ok(pgq_schema_install(((fixture *)*state)->client, &options, &err), &err);
    return 0;
}

static pgq_code send(fixture *f, size_t count, pgq_on_conflict on_conflict, pgq_error *err)
{
    *err = (pgq_error)PGQ_ERROR_INIT;
    return pgq_import_batch(f->client, &import, many, count, on_conflict, err);
}

static void what_was_recorded_is_found_again(void **state)
{
    fixture *f = *state;
    pgq_import *found = NULL;
    pgq_error err = PGQ_ERROR_INIT;

    import.source = "/some/where";
    import.position = 4711;
    import.digest = INT64_MIN;
    import.lines = 12;
    import.rejected = 3;
    import.rejects_bytes = 99;
    import.finished = true;
    expect_ok(send(f, 2, PGQ_ON_CONFLICT_RAISE, &err), &err);
    for (int by_source = 0; by_source < 2; by_source++) {
        expect_ok(pgq_import_find(f->client, by_source ? "other" : "mine",
                                  by_source ? "/some/where" : NULL, &found, &err),
                  &err);
        assert_string_equal(found->name, "mine");
        assert_string_equal(found->source, "/some/where");
        assert_string_equal(found->settings, "as they are");
        assert_true(found->position == 4711 && found->digest == INT64_MIN && found->lines == 12);
        assert_true(found->rejected == 3 && found->rejects_bytes == 99 && found->finished);
        assert_true(found->version == 1 && found->jobs == 2 && found->skipped == 0);
        assert_true(found->updated_us > 1600000000000000);
        found = pgq_import_free(found);
    }
    expect_code(PGQ_E_NOT_FOUND, pgq_import_find(f->client, "other", NULL, &found, &err), &err);
    expect_code(PGQ_E_NOT_FOUND, pgq_import_find(f->client, "other", "/some", &found, &err), &err);
    assert_null(found);
}

static void jobs_and_position_are_committed_together_or_not_at_all(void **state)
{
    fixture *f = *state;
    pgq_error err;

    expect_ok(send(f, MANY, PGQ_ON_CONFLICT_RAISE, &err), &err);
    many[17].dedupe_key = many[2222].dedupe_key = "twice";
    import.position = 5;
    expect_code(PGQ_E_DUPLICATE, send(f, MANY, PGQ_ON_CONFLICT_RAISE, &err), &err);
    assert_string_equal(err.where, "job 2222 of the batch, counted from 0");
    assert_true(import.version == 1 && import.jobs == MANY);
    assert_int_equal(sql_number(f->db.sql, "SELECT count(*) FROM pgqueuer"), MANY);
    assert_string_equal(sql_text(f->db.sql, "SELECT concat_ws('|', version, position, jobs) FROM "
                                            "pgqueuer_c.imports"),
                        "1|0|3000");
    expect_ok(send(f, 0, PGQ_ON_CONFLICT_RAISE, &err), &err);
    assert_string_equal(sql_text(f->db.sql, "SELECT concat_ws('|', version, position, jobs) FROM "
                                            "pgqueuer_c.imports"),
                        "2|5|3000");
}

static void whoever_goes_on_second_fails_and_enqueues_nothing(void **state)
{
    fixture *f = *state;
    pgq_import other = import;
    pgq_error err;

    expect_ok(send(f, 1, PGQ_ON_CONFLICT_RAISE, &err), &err);
    for (size_t count = 1; count <= MANY; count += MANY - 1) {
        expect_code(PGQ_E_STATE,
                    pgq_import_batch(f->client, &other, many, count, PGQ_ON_CONFLICT_RAISE, &err),
                    &err);
        assert_int_equal(other.version, 0);
        assert_int_equal(sql_number(f->db.sql, "SELECT count(*) FROM pgqueuer"), 1);
    }
    other.version = 1;
    expect_ok(pgq_import_batch(f->client, &other, many, 1, PGQ_ON_CONFLICT_RAISE, &err), &err);
    expect_code(PGQ_E_STATE, send(f, 1, PGQ_ON_CONFLICT_RAISE, &err), &err);
    assert_int_equal(sql_number(f->db.sql, "SELECT count(*) FROM pgqueuer"), 2);
}

static void skipped_jobs_are_counted(void **state)
{
    fixture *f = *state;
    pgq_error err;

    many[0].dedupe_key = many[2].dedupe_key = "key";
    expect_ok(send(f, 3, PGQ_ON_CONFLICT_SKIP, &err), &err);
    assert_true(import.jobs == 2 && import.skipped == 1);
    expect_ok(send(f, 3, PGQ_ON_CONFLICT_SKIP, &err), &err);
    assert_true(import.jobs == 3 && import.skipped == 3);
    assert_int_equal(sql_number(f->db.sql, "SELECT skipped FROM pgqueuer_c.imports"), 3);
}

static void taken_keys_are_told_apart(void **state)
{
    fixture *f = *state;
    bool taken[5];
    pgq_error err = PGQ_ERROR_INIT;

    many[0].dedupe_key = "there";
    expect_ok(send(f, 1, PGQ_ON_CONFLICT_RAISE, &err), &err);
    many[1].dedupe_key = many[3].dedupe_key = "new";
    many[4].dedupe_key = "held";
    sql_run(f->db.sql, "INSERT INTO pgqueuer (priority, status, entrypoint, dedupe_key) VALUES (0, "
                       "'failed', 'e', 'held')");
    expect_ok(pgq_dedupe_taken(f->client, many, 5, taken, &err), &err);
    assert_true(taken[0] && !taken[1] && !taken[2] && taken[3] && !taken[4]);
    expect_ok(pgq_dedupe_taken(f->client, NULL, 0, NULL, &err), &err);
}

static size_t refused[8], refused_count;
static char reasons[8][256];

static void note_refused(size_t index, const char *reason, void *user)
{
    (void)user;
    assert_true(refused_count < UNIT_COUNT(refused));
    refused[refused_count] = index;
    (void)snprintf(reasons[refused_count++], sizeof(reasons[0]), "%s", reason);
}

static void jobs_that_break_a_rule_are_found_and_nothing_is_left(void **state)
{
    fixture *f = *state;
    pgq_error err = PGQ_ERROR_INIT;

    sql_run(f->db.sql, "ALTER TABLE pgqueuer ADD CONSTRAINT sane CHECK (priority < 5), "
                       "ADD CONSTRAINT one EXCLUDE (priority WITH =) WHERE (priority > 0)");
    many[0].priority = many[1].priority = many[MANY - 1].priority = 7;
    many[3].priority = many[2500].priority = 2;
    refused_count = 0;
    expect_ok(
        pgq_enqueue_refused(f->client, many, MANY, PGQ_ON_CONFLICT_RAISE, note_refused, NULL, &err),
        &err);
    assert_int_equal(refused_count, 4);
    assert_true(refused[0] == 0 && refused[1] == 1 && refused[2] == 2500 && refused[3] == MANY - 1);
    assert_non_null(strstr(reasons[0], "\"sane\""));
    assert_non_null(strstr(reasons[2], "\"one\""));
    assert_int_equal(sql_number(f->db.sql, "SELECT count(*) FROM pgqueuer"), 0);
    assert_int_equal(sql_number(f->db.sql, "SELECT count(*) FROM pgqueuer_log"), 0);
    expect_ok(
        pgq_enqueue_refused(f->client, many + 4, 9, PGQ_ON_CONFLICT_SKIP, note_refused, NULL, &err),
        &err);
    assert_int_equal(refused_count, 4);
    expect_code(PGQ_E_INVALID,
                pgq_enqueue_refused(f->client, many, 1, PGQ_ON_CONFLICT_SKIP, NULL, NULL, &err),
                &err);
}

static void what_is_no_jobs_fault_refuses_none(void **state)
{
    fixture *f = *state;
    pgq_error err = PGQ_ERROR_INIT;

    refused_count = 0;
    sql_run(f->db.sql, "ALTER TABLE pgqueuer_log RENAME TO elsewhere");
    expect_code(
        PGQ_E_SCHEMA_MISSING,
        pgq_enqueue_refused(f->client, many, 9, PGQ_ON_CONFLICT_RAISE, note_refused, NULL, &err),
        &err);
    assert_int_equal(refused_count, 0);
    sql_run(f->db.sql, "ALTER TABLE elsewhere RENAME TO pgqueuer_log");
    expect_ok(send(f, 1, PGQ_ON_CONFLICT_RAISE, &err), &err);
}

static void what_cannot_be_a_name_is_refused(void **state)
{
    fixture *f = *state;
    pgq_import *found = NULL;
    pgq_error err = PGQ_ERROR_INIT;
    char *longest = repeat(PGQ_IMPORT_TEXT_BYTES_MAX), *longer;

    expect_code(PGQ_E_INVALID, pgq_import_find(f->client, "", NULL, &found, &err), &err);
    expect_code(PGQ_E_INVALID, pgq_import_find(f->client, "\xFF", NULL, &found, &err), &err);
    longer = repeat(PGQ_IMPORT_TEXT_BYTES_MAX + 1);
    expect_code(PGQ_E_LIMIT, pgq_import_find(f->client, longer, NULL, &found, &err), &err);
    import.settings = longer;
    expect_code(PGQ_E_LIMIT, send(f, 1, PGQ_ON_CONFLICT_RAISE, &err), &err);
    import.settings = longest;
    import.source = longest;
    expect_ok(send(f, 1, PGQ_ON_CONFLICT_RAISE, &err), &err);
    import.settings = NULL;
    expect_code(PGQ_E_INVALID, send(f, 1, PGQ_ON_CONFLICT_RAISE, &err), &err);
    free(longest);
    free(longer);
}

static void without_the_extras_it_says_how_to_get_them(void **state)
{
    fixture *f = *state;
    pgq_import *found = NULL;
    pgq_error err = PGQ_ERROR_INIT;

    expect_code(PGQ_E_SCHEMA_MISSING, pgq_import_find(f->client, "a", NULL, &found, &err), &err);
    assert_non_null(strstr(err.hint, "pgqueuer install --extras"));
    expect_code(PGQ_E_SCHEMA_MISSING, send(f, 1, PGQ_ON_CONFLICT_RAISE, &err), &err);
    assert_non_null(strstr(err.hint, "pgqueuer install --extras"));
    assert_int_equal(sql_number(f->db.sql, "SELECT count(*) FROM pgqueuer"), 0);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, open_with_extras, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_was_recorded_is_found_again),
        CASE(jobs_and_position_are_committed_together_or_not_at_all),
        CASE(whoever_goes_on_second_fails_and_enqueues_nothing),
        CASE(skipped_jobs_are_counted),
        CASE(taken_keys_are_told_apart),
        CASE(jobs_that_break_a_rule_are_found_and_nothing_is_left),
        CASE(what_is_no_jobs_fault_refuses_none),
        CASE(what_cannot_be_a_name_is_refused),
        cmocka_unit_test_setup_teardown(without_the_extras_it_says_how_to_get_them, open_bare,
                                        close_fixture),
    };

    return server_start() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
