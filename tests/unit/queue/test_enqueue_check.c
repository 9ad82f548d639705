/* What an enqueue refuses before anything is sent. */
#include "samples.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "queue/enqueue.h"

static pgq_code check_one(const pgq_new_job *job, pgq_error *err)
{
    *err = (pgq_error)PGQ_ERROR_INIT;
    return enqueue_check(job, 1, PGQ_ON_CONFLICT_RAISE, err);
}

static void check_text_limit(const char **member, const pgq_new_job *job, size_t max)
{
    char *text = repeat(max + 1);
    pgq_error err;

    *member = text;
    expect_code(PGQ_E_LIMIT, check_one(job, &err), &err);
    text[max] = '\0';
    expect_ok(check_one(job, &err), &err);
    memcpy(text + max - 2, "\xC3\xA9", 2);
    expect_ok(check_one(job, &err), &err);
    memcpy(text + max - 2, "\xA9\xC3", 2);
    expect_code(PGQ_E_INVALID, check_one(job, &err), &err);
    free(text);
    *member = NULL;
}

static void entrypoints_and_dedupe_keys_may_be_as_long_as_their_limit(void **state)
{
    pgq_new_job job = some_job();
    pgq_error err;

    (void)state;
    check_text_limit(&job.entrypoint, &job, PGQ_ENTRYPOINT_BYTES_MAX);
    expect_code(PGQ_E_INVALID, check_one(&job, &err), &err);
    job.entrypoint = "";
    expect_code(PGQ_E_INVALID, check_one(&job, &err), &err);
    job.entrypoint = "fetch";
    check_text_limit(&job.dedupe_key, &job, PGQ_DEDUPE_KEY_BYTES_MAX);
    job.dedupe_key = ""; /* a key like any other */
    expect_ok(check_one(&job, &err), &err);
}

static void headers_are_one_json_object_up_to_their_limit(void **state)
{
    static const char *const good[] = {"{}", " {\"a\": {\"b\": [1, 2.5, null, true]}}\n",
                                       "{\"n\": 123456789012345678901234567890}",
                                       "{\"\xC3\xA9\": \"\\u00e9\\ud83d\\ude00\"}"};
    static const char *const bad[] = {"",
                                      "[]",
                                      "1",
                                      "null",
                                      "\"x\"",
                                      "{",
                                      "{} {}",
                                      "{'a': 1}",
                                      "{\"a\": \"\\u0000\"}",
                                      "{\"a\": \"\\ud800\"}",
                                      "{\"a\": \"\xFF\"}",
                                      "{\"a\": NaN}",
                                      "{\"a\":1,}"};
    pgq_new_job job = some_job();
    char *text = repeat(PGQ_HEADERS_BYTES_MAX + 1);
    pgq_error err;

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(good); i++) {
        job.headers = good[i];
        expect_ok(check_one(&job, &err), &err);
    }
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        job.headers = bad[i];
        expect_code(PGQ_E_INVALID, check_one(&job, &err), &err);
    }
    job.headers = text;
    memcpy(text, "{\"k\":\"", 6);
    memcpy(text + PGQ_HEADERS_BYTES_MAX - 2, "\"}", 3);
    expect_ok(check_one(&job, &err), &err);
    memcpy(text + PGQ_HEADERS_BYTES_MAX - 2, "x\"}", 4);
    expect_code(PGQ_E_LIMIT, check_one(&job, &err), &err);
    free(text);
}

static void payloads_may_be_as_long_as_their_limit(void **state)
{
    pgq_new_job job = some_job();
    pgq_error err;

    (void)state;
    /* the check looks at the length alone */
    job.payload = (pgq_bytes){"", PGQ_PAYLOAD_BYTES_MAX};
    expect_ok(check_one(&job, &err), &err);
    job.payload.len++;
    expect_code(PGQ_E_LIMIT, check_one(&job, &err), &err);
    job.payload = (pgq_bytes){NULL, 1};
    expect_code(PGQ_E_INVALID, check_one(&job, &err), &err);
}

static void times_must_be_within_their_range(void **state)
{
    pgq_new_job job = some_job();
    pgq_error err;

    (void)state;
    job.delay_ms = PGQ_DELAY_MS_MAX;
    expect_ok(check_one(&job, &err), &err);
    job.delay_ms++;
    expect_code(PGQ_E_LIMIT, check_one(&job, &err), &err);
    job.delay_ms = -1;
    expect_code(PGQ_E_LIMIT, check_one(&job, &err), &err);
    job.delay_ms = 0;
    job.run_at_us = 1;
    expect_ok(check_one(&job, &err), &err);
    job.run_at_us = -1;
    expect_code(PGQ_E_LIMIT, check_one(&job, &err), &err);
    job.run_at_us = INT64_MAX;
    expect_code(PGQ_E_LIMIT, check_one(&job, &err), &err);
    job.run_at_us = 1;
    job.delay_ms = 1;
    expect_code(PGQ_E_INVALID, check_one(&job, &err), &err);
}

static void a_log_policy_is_one_of_the_choices(void **state)
{
    pgq_new_job job = some_job();
    pgq_error err;

    (void)state;
    job.log_policy = PGQ_LOG_POLICY_FAILURES;
    expect_ok(check_one(&job, &err), &err);
    job.log_policy = (pgq_log_policy)(PGQ_LOG_POLICY_FAILURES + 1);
    expect_code(PGQ_E_INVALID, check_one(&job, &err), &err);
    job.log_policy = (pgq_log_policy)-1;
    expect_code(PGQ_E_INVALID, check_one(&job, &err), &err);
}

static void a_batch_may_have_a_hundred_thousand_jobs(void **state)
{
    pgq_new_job *jobs = calloc(PGQ_BATCH_JOBS_MAX + 1, sizeof(*jobs));
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    assert_non_null(jobs);
    for (size_t i = 0; i < PGQ_BATCH_JOBS_MAX + 1; i++)
        jobs[i] = some_job();
    expect_ok(enqueue_check(jobs, PGQ_BATCH_JOBS_MAX, PGQ_ON_CONFLICT_RAISE, &err), &err);
    expect_code(PGQ_E_LIMIT,
                enqueue_check(jobs, PGQ_BATCH_JOBS_MAX + 1, PGQ_ON_CONFLICT_RAISE, &err), &err);
    free(jobs);
}

static void a_batch_may_have_a_quarter_gibibyte(void **state)
{
    pgq_new_job jobs[5];
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(jobs); i++) {
        jobs[i] = some_job();
        jobs[i].payload = (pgq_bytes){"", i < 4 ? PGQ_PAYLOAD_BYTES_MAX : 0};
    }
    expect_ok(enqueue_check(jobs, 5, PGQ_ON_CONFLICT_RAISE, &err), &err);
    jobs[4].payload.len = 1;
    expect_code(PGQ_E_LIMIT, enqueue_check(jobs, 5, PGQ_ON_CONFLICT_RAISE, &err), &err);
    assert_non_null(strstr(err.where, "job 4"));
}

static void the_job_that_is_refused_is_named(void **state)
{
    pgq_new_job jobs[3] = {some_job(), some_job(), some_job()};
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    jobs[2].entrypoint = "";
    expect_code(PGQ_E_INVALID, enqueue_check(jobs, 3, PGQ_ON_CONFLICT_RAISE, &err), &err);
    assert_non_null(strstr(err.where, "job 2"));
    expect_code(PGQ_E_INVALID, enqueue_check(jobs, 3, (pgq_on_conflict)3, &err), &err);
    jobs[2] = some_job();
    jobs[0].dedupe_key = jobs[2].dedupe_key = "same";
    expect_ok(enqueue_check(jobs, 3, PGQ_ON_CONFLICT_SKIP, &err), &err);
    expect_code(PGQ_E_INVALID, enqueue_check(jobs, 3, PGQ_ON_CONFLICT_UPDATE_PRIORITY, &err), &err);
    assert_non_null(strstr(err.where, "job 2"));
}

/* A caller that was compiled with a shorter and with a longer struct. */
static void the_stride_of_a_batch_is_the_callers(void **state)
{
    struct longer {
        pgq_new_job job;
        long long more;
    } jobs[2];
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    memset(jobs, 0, sizeof(jobs));
    for (size_t i = 0; i < 2; i++) {
        jobs[i].job = some_job();
        jobs[i].job.struct_size = sizeof(jobs[i]);
    }
    expect_ok(enqueue_check(&jobs[0].job, 2, PGQ_ON_CONFLICT_RAISE, &err), &err);
    jobs[1].more = 1;
    expect_code(PGQ_E_UNSUPPORTED, enqueue_check(&jobs[0].job, 2, PGQ_ON_CONFLICT_RAISE, &err),
                &err);
    jobs[0].job.struct_size = 0;
    expect_code(PGQ_E_INVALID, enqueue_check(&jobs[0].job, 2, PGQ_ON_CONFLICT_RAISE, &err), &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entrypoints_and_dedupe_keys_may_be_as_long_as_their_limit),
        cmocka_unit_test(headers_are_one_json_object_up_to_their_limit),
        cmocka_unit_test(payloads_may_be_as_long_as_their_limit),
        cmocka_unit_test(times_must_be_within_their_range),
        cmocka_unit_test(a_log_policy_is_one_of_the_choices),
        cmocka_unit_test(a_batch_may_have_a_hundred_thousand_jobs),
        cmocka_unit_test(a_batch_may_have_a_quarter_gibibyte),
        cmocka_unit_test(the_job_that_is_refused_is_named),
        cmocka_unit_test(the_stride_of_a_batch_is_the_callers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
