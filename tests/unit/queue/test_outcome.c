#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include <pgqueuer/client.h>

#include "base/utf8.h"
#include "queue/outcome.h"

static const traceback_context failure = {
    .job_id = 4711,
    .attempts = 2,
    .entrypoint = "send \"mail\"",
    .worker_id = "fc83e8c7-f9eb-4046-8990-1464f3d80726",
    .wall_us = 1795510807123456,
};

/* The traceback as jansson reads it; the caller frees it. */
static json_t *make(const traceback_context *context, const outcome_text *text)
{
    buffer out = BUFFER_INIT;
    json_t *object;

    outcome_add_traceback(&out, context, text);
    assert_false(out.broken);
    assert_true(utf8_valid(out.data, out.len));
    object = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(object);
    buffer_release(&out);
    return object;
}

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static void a_failures_traceback_has_the_six_keys(void **state)
{
    pgq_outcome outcome = pgq_fail("ValueError", "boom");
    json_t *object = make(&failure, outcome.text), *context;

    (void)state;
    assert_int_equal(outcome.kind, OUTCOME_FAIL);
    assert_int_equal(json_object_size(object), 6);
    assert_int_equal(json_integer_value(json_object_get(object, "job_id")), 4711);
    assert_string_equal(text_of(object, "timestamp"), "2026-11-24T09:00:07.123456Z");
    assert_string_equal(text_of(object, "exception_type"), "ValueError");
    assert_string_equal(text_of(object, "exception_message"), "boom");
    assert_string_equal(text_of(object, "traceback"), "ValueError: boom\n");
    context = json_object_get(object, "additional_context");
    assert_int_equal(json_object_size(context), 2);
    assert_string_equal(text_of(context, "entrypoint"), "send \"mail\"");
    assert_string_equal(text_of(context, "queue_manager_id"), failure.worker_id);
    json_decref(object);
    pgq_outcome_discard(&outcome);
    assert_null(outcome.text);
    pgq_outcome_discard(&outcome);
}

static void a_retrys_traceback_says_attempt_delay_and_reason(void **state)
{
    pgq_outcome outcome = pgq_retry(1500, "asked to");
    traceback_context retry = failure;
    json_t *object, *context;

    (void)state;
    retry.retry = true;
    retry.delay_ms = outcome.delay_ms;
    object = make(&retry, outcome.text);
    context = json_object_get(object, "additional_context");
    assert_string_equal(text_of(object, "exception_type"), "RetryRequested");
    assert_string_equal(text_of(object, "exception_message"), "asked to");
    assert_int_equal(json_object_size(context), 5);
    assert_int_equal(json_integer_value(json_object_get(context, "attempt")), 2);
    assert_string_equal(text_of(context, "retry_delay"), "0:00:01.500000");
    assert_string_equal(text_of(context, "reason"), "asked to");
    json_decref(object);
    pgq_outcome_discard(&outcome);
    outcome = pgq_retry(0, NULL);
    object = make(&retry, outcome.text);
    context = json_object_get(object, "additional_context");
    assert_true(json_is_null(json_object_get(context, "reason")));
    assert_string_equal(text_of(object, "exception_message"), "");
    json_decref(object);
    pgq_outcome_discard(&outcome);
}

/* As Python's executor writes it; the cause stands in the traceback. */
static void a_failure_that_became_a_retry_is_written_as_one(void **state)
{
    pgq_outcome failed = pgq_fail("ValueError", "boom");
    pgq_outcome outcome = outcome_retry(&failed, 100, false);
    traceback_context retry = failure;
    json_t *object;

    (void)state;
    retry.retry = true;
    retry.delay_ms = outcome.delay_ms;
    object = make(&retry, outcome.text);
    assert_string_equal(text_of(object, "exception_type"), "RetryRequested");
    assert_string_equal(text_of(object, "exception_message"), "boom");
    assert_string_equal(text_of(object, "traceback"), "ValueError: boom\nRetryRequested: boom\n");
    assert_string_equal(text_of(json_object_get(object, "additional_context"), "reason"), "boom");
    json_decref(object);
    pgq_outcome_discard(&outcome);
}

static void a_failure_without_texts_still_has_all_keys(void **state)
{
    static const outcome_text none = {NULL, NULL};
    const outcome_text *texts[] = {NULL, &none};

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(texts); i++) {
        json_t *object = make(&failure, texts[i]);

        assert_int_equal(json_object_size(object), 6);
        assert_string_equal(text_of(object, "exception_type"), "Failure");
        assert_string_equal(text_of(object, "exception_message"), "");
        assert_string_equal(text_of(object, "traceback"), "Failure\n");
        json_decref(object);
    }
}

static void bytes_that_the_database_refuses_are_replaced(void **state)
{
    pgq_outcome outcome = pgq_fail("Type\xFF", "a\xED\xA0\x80 b\x01\t\"\\ \xC3\xA9\n\x80");
    json_t *object = make(&failure, outcome.text);

    (void)state;
    assert_string_equal(text_of(object, "exception_type"), "Type\xEF\xBF\xBD");
    assert_string_equal(text_of(object, "exception_message"),
                        "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD b\x01\t\"\\ \xC3\xA9\n\xEF\xBF\xBD");
    json_decref(object);
    pgq_outcome_discard(&outcome);
}

/* A character of each width stands across the cut. */
static void a_text_over_the_limit_is_cut_at_a_character_and_marked(void **state)
{
    static const char *const characters[] = {"x", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    char *text = malloc(PGQ_OUTCOME_TEXT_BYTES_MAX + 8);

    (void)state;
    assert_non_null(text);
    for (size_t c = 0; c < UNIT_COUNT(characters); c++) {
        size_t width = strlen(characters[c]);

        for (size_t before = 0; before < width + 1; before++) {
            size_t at = PGQ_OUTCOME_TEXT_BYTES_MAX - before;
            pgq_outcome outcome;
            const outcome_text *cut;
            size_t len;

            memset(text, 'a', at);
            memcpy(text + at, characters[c], width + 1);
            outcome = pgq_fail("Long", text);
            cut = outcome.text;
            len = strlen(cut->message);
            assert_true(utf8_valid(cut->message, len));
            if (at + width <= PGQ_OUTCOME_TEXT_BYTES_MAX) {
                assert_string_equal(cut->message, text);
            } else {
                assert_string_equal(cut->message + len - 6, " [cut]");
                assert_true(len <= PGQ_OUTCOME_TEXT_BYTES_MAX + 6);
                assert_true(len > PGQ_OUTCOME_TEXT_BYTES_MAX + 6 - 4);
            }
            pgq_outcome_discard(&outcome);
        }
    }
    free(text);
}

static void a_long_type_is_cut_at_a_character(void **state)
{
    char type[401];
    pgq_outcome outcome;
    json_t *object;

    (void)state;
    for (size_t i = 0; i < 400; i += 2)
        memcpy(type + i, "\xC3\xA9", 2);
    memmove(type + 1, type, 399);
    type[0] = 'T';
    type[400] = '\0';
    outcome = pgq_fail(type, NULL);
    object = make(&failure, outcome.text);
    assert_true(strlen(text_of(object, "exception_type")) <= 200);
    assert_null(strstr(text_of(object, "exception_type"), "\xEF\xBF\xBD"));
    json_decref(object);
    pgq_outcome_discard(&outcome);
}

/* What Python's str(timedelta(milliseconds=...)) prints. */
static void delays_are_printed_as_python_prints_them(void **state)
{
    static const struct {
        int64_t ms;
        const char *text;
    } rows[] = {
        {0, "0:00:00"},
        {1, "0:00:00.001000"},
        {50, "0:00:00.050000"},
        {1500, "0:00:01.500000"},
        {59999, "0:00:59.999000"},
        {60000, "0:01:00"},
        {3600000, "1:00:00"},
        {86399000, "23:59:59"},
        {86400000, "1 day, 0:00:00"},
        {86400001, "1 day, 0:00:00.001000"},
        {183845000, "2 days, 3:04:05"},
        {PGQ_DELAY_MS_MAX, "36600 days, 0:00:00"},
    };

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        buffer out = BUFFER_INIT;

        outcome_add_timedelta(&out, rows[i].ms);
        assert_string_equal(out.data, rows[i].text);
        buffer_release(&out);
    }
}

static void a_retrys_delay_is_clamped(void **state)
{
    static const struct {
        int64_t given, kept;
    } rows[] = {
        {-1, 0},
        {INT64_MIN, 0},
        {0, 0},
        {PGQ_DELAY_MS_MAX, PGQ_DELAY_MS_MAX},
        {PGQ_DELAY_MS_MAX + 1, PGQ_DELAY_MS_MAX},
        {INT64_MAX, PGQ_DELAY_MS_MAX},
    };

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        pgq_outcome outcome = pgq_retry(rows[i].given, NULL);

        assert_true(outcome.delay_ms == rows[i].kept);
        pgq_outcome_discard(&outcome);
    }
}

static void done_and_cancelled_own_nothing(void **state)
{
    pgq_outcome done = pgq_done(), cancelled = pgq_cancelled();

    (void)state;
    assert_int_equal(done.kind, OUTCOME_DONE);
    assert_int_equal(cancelled.kind, OUTCOME_CANCELLED);
    assert_null(done.text);
    assert_null(cancelled.text);
}

static void the_callers_texts_are_copied(void **state)
{
    char type[] = "Type", message[] = "message";
    pgq_outcome outcome = pgq_fail(type, message);
    const outcome_text *text = outcome.text;

    (void)state;
    memset(type, 'x', sizeof(type) - 1);
    memset(message, 'x', sizeof(message) - 1);
    assert_string_equal(text->type, "Type");
    assert_string_equal(text->message, "message");
    pgq_outcome_discard(&outcome);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failures_traceback_has_the_six_keys),
        cmocka_unit_test(a_retrys_traceback_says_attempt_delay_and_reason),
        cmocka_unit_test(a_failure_that_became_a_retry_is_written_as_one),
        cmocka_unit_test(a_failure_without_texts_still_has_all_keys),
        cmocka_unit_test(bytes_that_the_database_refuses_are_replaced),
        cmocka_unit_test(a_text_over_the_limit_is_cut_at_a_character_and_marked),
        cmocka_unit_test(a_long_type_is_cut_at_a_character),
        cmocka_unit_test(delays_are_printed_as_python_prints_them),
        cmocka_unit_test(a_retrys_delay_is_clamped),
        cmocka_unit_test(done_and_cancelled_own_nothing),
        cmocka_unit_test(the_callers_texts_are_copied),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
