/* From bytes to records, and from records to jobs. */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/import.h"

/* ---- records ---- */

/* A stream of these bytes, in a file without a name. */
static import_source stream(import_format format, const char *bytes, size_t len)
{
    FILE *file = tmpfile();
    import_source s;

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fflush(file), 0);
    import_source_init(&s, dup(fileno(file)), format);
    assert_int_equal(lseek(s.fd, 0, SEEK_SET), 0);
    (void)fclose(file);
    return s;
}

static void end_stream(import_source *s)
{
    (void)close(s->fd);
    import_source_release(s);
}

static void expect_record(import_source *s, int64_t line, const char *text)
{
    pgq_error err = PGQ_ERROR_INIT;
    import_record r;

    expect_ok(import_source_next(s, &r, &err), &err);
    if (text == NULL) {
        assert_null(r.text);
        return;
    }
    assert_non_null(r.text);
    assert_int_equal(r.len, strlen(text));
    assert_memory_equal(r.text, text, r.len);
    assert_int_equal(r.line, line);
}

static void lines_end_where_they_end(void **state)
{
    static const char text[] = "\xEF\xBB\xBF"
                               "one\r\n\ntwo\n\"th\nree";
    import_source s = stream(IMPORT_JSONL, text, sizeof(text) - 1);

    (void)state;
    expect_record(&s, 1, "one");
    expect_record(&s, 2, "");
    assert_int_equal(s.position, 9);
    expect_record(&s, 3, "two");
    expect_record(&s, 4, "\"th");
    expect_record(&s, 5, "ree");
    expect_record(&s, 0, NULL);
    assert_int_equal(s.position, sizeof(text) - 1);
    assert_int_equal(s.lines, 5);
    assert_true(s.digest == import_digest(IMPORT_DIGEST_INIT, text, sizeof(text) - 1));
    end_stream(&s);
}

static void quotes_hold_lines_of_csv_together(void **state)
{
    static const char text[] = "a,\"x\ny\"\nb,5\" pipe\n\"\"\"\n\",c\n\"open\n";
    import_source s = stream(IMPORT_CSV, text, sizeof(text) - 1);
    pgq_error err = PGQ_ERROR_INIT;
    import_record r;

    (void)state;
    expect_record(&s, 1, "a,\"x\ny\"");
    expect_record(&s, 3, "b,5\" pipe");
    expect_record(&s, 4, "\"\"\"\n\",c");
    expect_ok(import_source_next(&s, &r, &err), &err);
    assert_true(r.unclosed && r.line == 6);
    expect_record(&s, 0, NULL);
    end_stream(&s);
}

static void a_record_of_the_longest_length_is_read_and_a_longer_one_passed_over(void **state)
{
    enum { MAX = 1024 * 1024 };
    size_t len = 2 * MAX + 3 + 3;
    char *bytes = malloc(len);
    pgq_error err = PGQ_ERROR_INIT;
    import_source s;
    import_record r;

    (void)state;
    assert_non_null(bytes);
    memset(bytes, 'x', len);
    bytes[MAX] = bytes[2 * MAX + 2] = '\n';
    memcpy(bytes + 2 * MAX + 3, "end", 3);
    s = stream(IMPORT_JSONL, bytes, len);
    s.record_max = MAX;
    expect_ok(import_source_next(&s, &r, &err), &err);
    assert_true(r.len == MAX && !r.too_long);
    expect_ok(import_source_next(&s, &r, &err), &err);
    assert_true(r.len == IMPORT_LOST_BYTES_MAX && r.too_long && r.line == 2);
    expect_record(&s, 3, "end");
    assert_true(s.digest == import_digest(IMPORT_DIGEST_INIT, bytes, len));
    assert_true(s.data.capacity < 4 * MAX);
    end_stream(&s);
    free(bytes);
}

static void what_is_skipped_is_digested(void **state)
{
    static const char text[] = "one\ntwo\nthree\n";
    import_source s = stream(IMPORT_JSONL, text, sizeof(text) - 1);
    pgq_error err = PGQ_ERROR_INIT;
    bool at_end = true;

    (void)state;
    expect_ok(import_source_skip(&s, 8, &err), &err);
    assert_true(s.digest == import_digest(IMPORT_DIGEST_INIT, text, 8));
    expect_ok(import_source_at_end(&s, &at_end, &err), &err);
    assert_false(at_end);
    expect_record(&s, 1, "three");
    expect_ok(import_source_at_end(&s, &at_end, &err), &err);
    assert_true(at_end);
    expect_code(PGQ_E_STATE, import_source_skip(&s, 1, &err), &err);
    end_stream(&s);
}

/* ---- jobs ---- */

static arena memory;

static bool json(import_job *j, const char *text)
{
    pgq_new_job defaults = PGQ_NEW_JOB_INIT;

    defaults.entrypoint = "default";
    import_job_init(j, &defaults, &memory);
    return import_read_json(j, text, strlen(text));
}

static void expect_payload(const import_job *j, const char *bytes, size_t len)
{
    assert_int_equal(j->job.payload.len, len);
    assert_non_null(j->job.payload.data);
    assert_memory_equal(j->job.payload.data, bytes, len);
}

static void every_field_of_json_arrives(void **state)
{
    import_job j;

    (void)state;
    assert_true(json(&j, "{\"entrypoint\": \"e\\u00e9\", \"payload\": \"a\\u0000\\\"}\", "
                         "\"priority\": -2147483648, \"headers\": {\"n\": 1e2, \"s\": \"}\"} , "
                         "\"delay\": 1.5, \"dedupe_key\": \"k\"}"));
    assert_string_equal(j.job.entrypoint, "e\xC3\xA9");
    expect_payload(&j, "a\0\"}", 4);
    assert_int_equal(j.job.priority, INT32_MIN);
    assert_string_equal(j.job.headers, "{\"n\": 1e2, \"s\": \"}\"}");
    assert_int_equal(j.job.delay_ms, 1500);
    assert_string_equal(j.job.dedupe_key, "k");
    assert_true(json(&j, " { \"payload_base64\" : \"AP+A\", \"execute_after\": "
                         "\"2100-03-01T00:00:00.5Z\", \"priority\": null } "));
    assert_string_equal(j.job.entrypoint, "default");
    expect_payload(&j, "\0\xFF\x80", 3);
    assert_true(j.job.run_at_us == 4107542400500000);
    assert_true(json(&j, "{}"));
    assert_null(j.job.payload.data);
}

static void a_payload_that_is_no_text_is_taken_as_it_is_written(void **state)
{
    static const char *const values[] = {"{\"a\": [1.0, \"}\\\"]\"]}",     "[1,2]", "1.50", "true",
                                         "123456789012345678901234567890", "{}"};
    char line[256];
    import_job j;

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(values); i++) {
        (void)snprintf(line, sizeof(line), "{\"payload\": %s , \"priority\":1}", values[i]);
        assert_true(json(&j, line));
        expect_payload(&j, values[i], strlen(values[i]));
        (void)snprintf(line, sizeof(line), "{\"payload\":%s}", values[i]);
        assert_true(json(&j, line));
        expect_payload(&j, values[i], strlen(values[i]));
    }
}

static void what_is_no_job_says_why(void **state)
{
    static const struct {
        const char *line, *reason;
    } rows[] = {
        {"", "not JSON"},
        {"{\"priority\": 1", "not JSON"},
        {"{} x", "not JSON"},
        {"[]", "not an object"},
        {"\"text\"", "not an object"},
        {"{\"priorty\": 1}", "no field priorty"},
        {"{\"pay\\u006coad\": 1}", "no field"},
        {"{\"priority\": 1, \"priority\": 2}", "not JSON"},
        {"{\"priority\": \"1\"}", "not a number"},
        {"{\"priority\": 1.5}", "whole number"},
        {"{\"priority\": 2147483648}", "2147483647"},
        {"{\"priority\": -2147483649}", "2147483647"},
        {"{\"priority\": 99999999999999999999999}", "2147483647"},
        {"{\"headers\": []}", "not an object"},
        {"{\"headers\": \"{}\"}", "not an object"},
        {"{\"headers\": {\"a\": \"\\u0000\"}}", "headers"},
        {"{\"entrypoint\": \"\"}", "entrypoint is empty"},
        {"{\"entrypoint\": \"a\\u0000b\"}", "NUL"},
        {"{\"entrypoint\": 5}", "not a text"},
        {"{\"delay\": -1}", "number of seconds"},
        {"{\"delay\": 1e3}", "number of seconds"},
        {"{\"delay\": 99999999999}", "longer than"},
        {"{\"execute_after\": \"tomorrow\"}", "time with an offset"},
        {"{\"execute_after\": \"2100-01-01T00:00:00Z\", \"delay\": 1}", "contradict"},
        {"{\"payload\": \"a\", \"payload_base64\": \"YQ==\"}", "contradict"},
        {"{\"payload_base64\": \"YQ=\"}", "multiple of 4"},
        {"{\"payload_base64\": \"Y=Q=\"}", "character 2"},
        {"{\"payload_base64\": \"YQ\\n=\"}", "character 3"},
        {"{\"a\x1b[31m\": 1}", "not JSON"},
    };
    import_job j;

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        assert_false(json(&j, rows[i].line));
        if (strstr(j.reason, rows[i].reason) == NULL)
            fail_msg("%s: %s", rows[i].line, j.reason);
        assert_null(strpbrk(j.reason, "\x1b\n\x7f"));
    }
}

static void texts_have_the_lengths_that_an_enqueue_allows(void **state)
{
    char line[4096];
    import_job j;

    (void)state;
    (void)snprintf(line, sizeof(line), "{\"dedupe_key\": \"%0*d\"}", (int)PGQ_DEDUPE_KEY_BYTES_MAX,
                   0);
    assert_true(json(&j, line));
    (void)snprintf(line, sizeof(line), "{\"dedupe_key\": \"%0*d\"}",
                   (int)PGQ_DEDUPE_KEY_BYTES_MAX + 1, 0);
    assert_false(json(&j, line));
    assert_non_null(strstr(j.reason, "2048"));
}

static bool csv(import_job *j, const char *head, const char *text)
{
    pgq_new_job defaults = PGQ_NEW_JOB_INIT;
    import_columns columns;
    pgq_error err = PGQ_ERROR_INIT;

    expect_ok(import_read_head(&columns, head, strlen(head), &err), &err);
    import_job_init(j, &defaults, &memory);
    return import_read_csv(j, &columns, text, strlen(text));
}

static void a_record_of_csv_becomes_a_job(void **state)
{
    import_job j;

    (void)state;
    assert_true(csv(&j, "\"priority\",entrypoint,payload,headers",
                    "7,e,\"a,\"\"b\"\"\nc\",\"{\"\"t\"\": 1}\""));
    assert_int_equal(j.job.priority, 7);
    expect_payload(&j, "a,\"b\"\nc", 7);
    assert_string_equal(j.job.headers, "{\"t\": 1}");
    assert_true(csv(&j, "entrypoint,payload,priority", "e,,"));
    assert_null(j.job.payload.data);
    assert_true(csv(&j, "entrypoint,payload", "e,\"\""));
    expect_payload(&j, "", 0);
}

static void csv_that_does_not_fit_says_why(void **state)
{
    static const struct {
        const char *text, *reason;
    } rows[] = {
        {"e", "1 fields"},        {"e,x,y", "3 fields"},       {"e,\"x\"y", "quotes"},
        {"e,\"x\"y\"", "quotes"}, {"e,5\"", "begin with one"}, {",x", "entrypoint is missing"},
        {"e,\xFF", "UTF-8"},
    };
    static const char *const heads[] = {"", "entrypoint,", "entrypoint,nonsense",
                                        "entrypoint,entrypoint", "\"entrypoint"};
    import_columns columns;
    import_job j;

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        assert_false(csv(&j, "entrypoint,payload", rows[i].text));
        if (strstr(j.reason, rows[i].reason) == NULL)
            fail_msg("%s: %s", rows[i].text, j.reason);
    }
    for (size_t i = 0; i < UNIT_COUNT(heads); i++) {
        pgq_error err = PGQ_ERROR_INIT;

        expect_code(PGQ_E_INVALID, import_read_head(&columns, heads[i], strlen(heads[i]), &err),
                    &err);
    }
}

static int release(void **state)
{
    (void)state;
    arena_release(&memory);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_end_where_they_end),
        cmocka_unit_test(quotes_hold_lines_of_csv_together),
        cmocka_unit_test(a_record_of_the_longest_length_is_read_and_a_longer_one_passed_over),
        cmocka_unit_test(what_is_skipped_is_digested),
        cmocka_unit_test_teardown(every_field_of_json_arrives, release),
        cmocka_unit_test_teardown(a_payload_that_is_no_text_is_taken_as_it_is_written, release),
        cmocka_unit_test_teardown(what_is_no_job_says_why, release),
        cmocka_unit_test_teardown(texts_have_the_lengths_that_an_enqueue_allows, release),
        cmocka_unit_test_teardown(a_record_of_csv_becomes_a_job, release),
        cmocka_unit_test_teardown(csv_that_does_not_fit_says_why, release),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
