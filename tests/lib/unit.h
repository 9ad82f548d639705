/* What every C test includes: cmocka with the headers it wants, and checks of a pgq_code. */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pgqueuer/error.h>

#define UNIT_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Fails, with the texts of the error, unless `got` is `wanted`. */
#define expect_code(wanted, got, err) unit_expect_code(wanted, got, err, __FILE__, __LINE__)
#define expect_ok(got, err) unit_expect_code(PGQ_OK, got, err, __FILE__, __LINE__)

static inline void unit_expect_code(pgq_code wanted, pgq_code got, const pgq_error *err,
                                    const char *file, int line)
{
    if (got == wanted) {
        if (err != NULL && got != PGQ_OK && err->code != got)
            print_error("the code is %s, but the error's is %s\n", pgq_code_name(got),
                        pgq_code_name(err->code));
        _assert_true(err == NULL || got == PGQ_OK || err->code == got, "err->code == code", file,
                     line);
        return;
    }
    print_error("wanted %s, got %s: %s | %s | %s | %s\n", pgq_code_name(wanted), pgq_code_name(got),
                err != NULL ? err->message : "", err != NULL ? err->hint : "",
                err != NULL ? err->where : "", err != NULL ? err->sqlstate : "");
    _fail(file, line);
}

#endif
