#include "unit.h"

#include "pg/sqlstate.h"

static void every_sqlstate_that_we_act_on_has_its_meaning(void **state)
{
    static const struct {
        const char *sqlstate;
        sqlstate_class class;
        pgq_code code;
    } rows[] = {
        {"08006", SQLSTATE_CONNECTION, PGQ_E_CONNECTION_LOST},
        {"0A000", SQLSTATE_CONNECTION, PGQ_E_DATABASE},
        {"22021", SQLSTATE_DATA, PGQ_E_DATABASE},
        {"22P05", SQLSTATE_DATA, PGQ_E_DATABASE},
        {"23502", SQLSTATE_DATA, PGQ_E_DATABASE},
        {"23505", SQLSTATE_UNIQUE, PGQ_E_DUPLICATE},
        {"25006", SQLSTATE_CONNECTION, PGQ_E_DATABASE},
        {"25P03", SQLSTATE_CONNECTION, PGQ_E_CONNECTION_LOST},
        {"25P04", SQLSTATE_CONNECTION, PGQ_E_CONNECTION_LOST},
        {"26000", SQLSTATE_CONNECTION, PGQ_E_DATABASE},
        {"42P05", SQLSTATE_CONNECTION, PGQ_E_DATABASE},
        {"28P01", SQLSTATE_PERMISSION, PGQ_E_AUTH},
        {"3D000", SQLSTATE_OTHER, PGQ_E_CONNECT},
        {"40001", SQLSTATE_TRANSIENT, PGQ_E_DATABASE},
        {"40P01", SQLSTATE_TRANSIENT, PGQ_E_DATABASE},
        {"42501", SQLSTATE_PERMISSION, PGQ_E_PERMISSION},
        {"42P01", SQLSTATE_SCHEMA, PGQ_E_SCHEMA_MISSING},
        {"42703", SQLSTATE_SCHEMA, PGQ_E_SCHEMA_MISMATCH},
        {"42P10", SQLSTATE_SCHEMA, PGQ_E_SCHEMA_MISMATCH},
        {"42601", SQLSTATE_OTHER, PGQ_E_DATABASE},
        {"53100", SQLSTATE_TRANSIENT, PGQ_E_DATABASE},
        {"53300", SQLSTATE_TRANSIENT, PGQ_E_DATABASE},
        {"54000", SQLSTATE_DATA, PGQ_E_LIMIT},
        {"55P03", SQLSTATE_TRANSIENT, PGQ_E_TIMEOUT},
        {"57014", SQLSTATE_TRANSIENT, PGQ_E_TIMEOUT},
        {"57P01", SQLSTATE_CONNECTION, PGQ_E_CONNECTION_LOST},
        {"57P03", SQLSTATE_CONNECTION, PGQ_E_CONNECTION_LOST},
        {"58030", SQLSTATE_TRANSIENT, PGQ_E_DATABASE},
        {"XX000", SQLSTATE_OTHER, PGQ_E_DATABASE},
        {"P0001", SQLSTATE_OTHER, PGQ_E_DATABASE},
        {"", SQLSTATE_OTHER, PGQ_E_DATABASE},
    };

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        if (sqlstate_classify(rows[i].sqlstate) != rows[i].class ||
            sqlstate_code(rows[i].sqlstate) != rows[i].code)
            fail_msg("%s", rows[i].sqlstate);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_sqlstate_that_we_act_on_has_its_meaning),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
