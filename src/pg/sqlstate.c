#include "pg/sqlstate.h"

typedef struct sqlstate_row {
    const char *prefix; /* the first characters of the SQLSTATE; the first row that fits counts */
    sqlstate_class class;
    pgq_code code;
} sqlstate_row;

static const sqlstate_row sqlstate_rows[] = {
    {"08", SQLSTATE_CONNECTION, PGQ_E_CONNECTION_LOST},
    {"0A000", SQLSTATE_CONNECTION, PGQ_E_DATABASE}, /* a cached plan changed its type: reconnect */
    {"21", SQLSTATE_DATA, PGQ_E_DATABASE},
    {"22", SQLSTATE_DATA, PGQ_E_DATABASE},
    {"23505", SQLSTATE_UNIQUE, PGQ_E_DUPLICATE},
    {"23", SQLSTATE_DATA, PGQ_E_DATABASE},
    {"25006", SQLSTATE_CONNECTION, PGQ_E_DATABASE}, /* read only: we are on a standby now */
    {"25P03", SQLSTATE_CONNECTION, PGQ_E_CONNECTION_LOST},
    {"25P04", SQLSTATE_CONNECTION, PGQ_E_CONNECTION_LOST}, /* transaction_timeout, from 17 on */
    {"26000", SQLSTATE_CONNECTION, PGQ_E_DATABASE},        /* a pooler gave us another session */
    {"28", SQLSTATE_PERMISSION, PGQ_E_AUTH},
    {"3D000", SQLSTATE_OTHER, PGQ_E_CONNECT},
    {"3F000", SQLSTATE_SCHEMA, PGQ_E_SCHEMA_MISSING},
    {"40", SQLSTATE_TRANSIENT, PGQ_E_DATABASE},
    {"42501", SQLSTATE_PERMISSION, PGQ_E_PERMISSION},
    {"42P01", SQLSTATE_SCHEMA, PGQ_E_SCHEMA_MISSING},
    {"42703", SQLSTATE_SCHEMA, PGQ_E_SCHEMA_MISMATCH},
    {"42704", SQLSTATE_SCHEMA, PGQ_E_SCHEMA_MISMATCH},
    {"42P05", SQLSTATE_CONNECTION, PGQ_E_DATABASE},    /* a pooler gave us somebody's session */
    {"42P10", SQLSTATE_SCHEMA, PGQ_E_SCHEMA_MISMATCH}, /* no arbiter index for ON CONFLICT */
    {"53", SQLSTATE_TRANSIENT, PGQ_E_DATABASE},
    {"54", SQLSTATE_DATA, PGQ_E_LIMIT},
    {"55P03", SQLSTATE_TRANSIENT, PGQ_E_TIMEOUT},
    {"57014", SQLSTATE_TRANSIENT, PGQ_E_TIMEOUT},
    {"57P", SQLSTATE_CONNECTION, PGQ_E_CONNECTION_LOST},
    {"58", SQLSTATE_TRANSIENT, PGQ_E_DATABASE},
};

static const sqlstate_row *find_row(const char *sqlstate)
{
    for (size_t i = 0; i < BASE_COUNT(sqlstate_rows); i++) {
        const char *prefix = sqlstate_rows[i].prefix;

        if (strncmp(sqlstate, prefix, strlen(prefix)) == 0)
            return &sqlstate_rows[i];
    }
    return NULL;
}

sqlstate_class sqlstate_classify(const char *sqlstate)
{
    const sqlstate_row *row = find_row(sqlstate);

    return row != NULL ? row->class : SQLSTATE_OTHER;
}

pgq_code sqlstate_code(const char *sqlstate)
{
    const sqlstate_row *row = find_row(sqlstate);

    return row != NULL ? row->code : PGQ_E_DATABASE;
}
