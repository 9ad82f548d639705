#include "schema/explain.h"
#include "base/error.h"

pgq_code explain_error(pgq_code code, const char *action, pgq_error *err)
{
    if (err == NULL || err->sqlstate[0] == '\0')
        return code;
    error_where(err, "%s", action);
    if (code == PGQ_E_DUPLICATE) /* of a catalogue's row, not of a job */
        code = err->code = PGQ_E_DATABASE;
    if (code == PGQ_E_PERMISSION && base_streq(action, "install"))
        error_hint(err, "the role needs CREATE on the schema, and on the database to make one");
    else if (code == PGQ_E_PERMISSION)
        error_hint(err, "run it as the role that owns the tables");
    else if (code == PGQ_E_SCHEMA_MISSING)
        error_hint(err, "run pgqueuer install first, or check --prefix and --schema");
    else if (base_streq(err->sqlstate, "23505") && base_streq(action, "upgrade"))
        error_hint(err,
                   "rows that are there have the same key; make them differ, then run it again");
    else if (base_streq(err->sqlstate, "2BP01"))
        error_hint(err, "something else in the database depends on it; drop that first");
    return code;
}

pgq_code explain_no_schema(const live_catalog *live, pgq_error *err)
{
    if (live->schema == NULL) {
        (void)error_set(err, PGQ_E_DATABASE,
                        "no schema of the connection's search_path exists or may be used");
        error_hint(err, "name one with --schema, or set the role's search_path");
    } else {
        (void)error_set(err, PGQ_E_DATABASE, "the schema '%s' does not exist", live->schema);
        error_hint(err, "create it, or let install create it");
    }
    if (err != NULL)
        memcpy(err->sqlstate, "3F000", sizeof("3F000"));
    return PGQ_E_DATABASE;
}

pgq_code explain_may_not_create(const live_catalog *live, pgq_error *err)
{
    (void)error_set(err, PGQ_E_PERMISSION, "the role may not create objects in the schema '%s'",
                    live->schema);
    error_hint(err, "GRANT CREATE ON SCHEMA to it, or use another role, such as the owner of the "
                    "tables, or --schema");
    return PGQ_E_PERMISSION;
}
