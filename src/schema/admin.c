/* The functions of <pgqueuer/admin.h>: each looks, renders, runs in one transaction, and explains
 * a refusal in the words of who asked. */
#include <pgqueuer/admin.h>

#include "base/buffer.h"
#include "base/error.h"
#include "pg/client.h"
#include "schema/live.h"
#include "schema/render.h"
#include "schema/verify.h"

static const char *const durability_names[CATALOG_DURABILITY_COUNT] = {
    [PGQ_DURABILITY_DURABLE] = "durable",
    [PGQ_DURABILITY_BALANCED] = "balanced",
    [PGQ_DURABILITY_VOLATILE] = "volatile",
};

static bool is_durability(pgq_durability durability)
{
    return (unsigned)durability < CATALOG_DURABILITY_COUNT;
}

static pgq_code check_durability(pgq_durability durability, pgq_error *err)
{
    if (is_durability(durability))
        return PGQ_OK;
    return error_set(err, PGQ_E_INVALID, "there is no durability %d", (int)durability);
}

pgq_code pgq_durability_parse(const char *text, pgq_durability *ret_durability, pgq_error *err)
{
    for (int i = 0; text != NULL && i < CATALOG_DURABILITY_COUNT; i++) {
        if (base_streq(text, durability_names[i])) {
            *ret_durability = (pgq_durability)i;
            return PGQ_OK;
        }
    }
    (void)error_set(err, PGQ_E_INVALID, "there is no durability '%.64s'", text != NULL ? text : "");
    error_hint(err, "one of durable, balanced, volatile");
    return PGQ_E_INVALID;
}

const char *pgq_durability_name(pgq_durability durability)
{
    return is_durability(durability) ? durability_names[durability] : "unknown";
}

/* Completes an error of the server with what to do about it. */
static pgq_code explain(pgq_code code, const char *action, pgq_error *err)
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
    else if (base_streq(err->sqlstate, "2BP01"))
        error_hint(err, "something else in the database depends on it; drop that first");
    return code;
}

/* Runs a script, if it was rendered, and releases it. */
static pgq_code run(pgq_client *client, script *s, pgq_code rendered, int64_t deadline_us,
                    const char *action, pgq_error *err)
{
    pgq_code code = rendered;

    if (code == PGQ_OK) {
        code = pg_conn_run_script(client->conn, s->sqls, s->count, deadline_us, err);
        if (code != PGQ_OK)
            code = explain(code, action, err);
    }
    script_release(s);
    return code;
}

static pgq_code no_schema(const live_catalog *live, pgq_error *err)
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

static pgq_code already_installed(const names *n, pgq_error *err)
{
    (void)error_set(err, PGQ_E_SCHEMA_EXISTS,
                    "PgQueuer is already installed (prefix='%s', schema=%s).", n->prefix,
                    n->schema != NULL ? n->schema : "the connection's search_path");
    error_hint(err, "run `pgqueuer verify --expect present` to see whether it is complete; "
                    "`pgq upgrade` of the Python release mends an older schema");
    return PGQ_E_SCHEMA_EXISTS;
}

/* Whether the objects can be made: their schema is there or can be created, and nothing else is. */
static pgq_code look_before_install(pgq_client *client, int64_t deadline_us,
                                    const pgq_install_options *options, bool *ret_create_schema,
                                    pgq_error *err)
{
    live_catalog live;
    pgq_code code = live_read(client, deadline_us, &live, err);

    if (code != PGQ_OK)
        return code;
    /* creating a schema asks for a right on the database even when it exists: only if need be */
    *ret_create_schema = options->create_schema && !live.schema_exists;
    if (live_is_installed(&live)) {
        code = already_installed(&client->names, err);
    } else if (live.schema == NULL || (!live.schema_exists && !options->create_schema)) {
        code = no_schema(&live, err);
    } else if (live.schema_exists && !live.may_create) {
        code = error_set(err, PGQ_E_PERMISSION,
                         "the role may not create objects in the schema '%s'", live.schema);
        error_hint(err, "GRANT CREATE ON SCHEMA to it, or use another role or --schema");
    }
    live_release(&live);
    return code;
}

/* Someone who takes no lock, such as the Python release's install, may have been faster. */
static bool is_duplicate(const pgq_error *e)
{
    return base_streq(e->sqlstate, "42710") || base_streq(e->sqlstate, "42P07") ||
           base_streq(e->sqlstate, "23505");
}

static pgq_code install(pgq_client *client, int64_t deadline_us, pgq_durability durability,
                        bool create_schema, pgq_error *err)
{
    script s = SCRIPT_INIT;
    int64_t key;
    pgq_code code = catalog_lock_key(&client->names, &key, err);

    if (code != PGQ_OK)
        return code;
    render_lock(&s, key);
    code = render_install(&s, &client->names, durability, create_schema, err);
    return run(client, &s, code, deadline_us, "install", err);
}

pgq_code pgq_schema_install(pgq_client *client, const pgq_install_options *options, pgq_error *err)
{
    pgq_install_options own = PGQ_INSTALL_OPTIONS_INIT;
    pgq_error local = PGQ_ERROR_INIT;
    bool create_schema = false;
    int64_t deadline_us;
    pgq_code code = base_copy_options(&own, sizeof(own), options, "pgq_install_options", err);

    if (code == PGQ_OK)
        code = check_durability(own.durability, err);
    if (code == PGQ_OK)
        code = catalog_check_names(&client->names, err);
    if (code == PGQ_OK)
        code = client_begin(client, &deadline_us, err);
    if (code == PGQ_OK)
        code = look_before_install(client, deadline_us, &own, &create_schema, err);
    if (code != PGQ_OK)
        return code;
    code = install(client, deadline_us, own.durability, create_schema, &local);
    /* the lock is released by who was faster, and then the objects are there: look again */
    if (code != PGQ_OK && is_duplicate(&local)) {
        pgq_code again = look_before_install(client, deadline_us, &own, &create_schema, err);

        if (again == PGQ_E_SCHEMA_EXISTS)
            return again;
    }
    if (code != PGQ_OK && err != NULL)
        *err = local;
    return code;
}

pgq_code pgq_schema_uninstall(pgq_client *client, pgq_error *err)
{
    script s = SCRIPT_INIT;
    int64_t deadline_us, key;
    pgq_code code = client_begin(client, &deadline_us, err);

    if (code == PGQ_OK)
        code = catalog_lock_key(&client->names, &key, err);
    if (code != PGQ_OK)
        return code;
    render_lock(&s, key);
    code = render_uninstall(&s, &client->names, err);
    return run(client, &s, code, deadline_us, "uninstall", err);
}

pgq_code pgq_schema_verify(pgq_client *client, pgq_expect expect, char **ret_report, pgq_error *err)
{
    live_catalog live;
    buffer report = BUFFER_INIT;
    int64_t deadline_us;
    size_t lines = 0;
    char *text;
    pgq_code code = client_begin(client, &deadline_us, err);

    if (code == PGQ_OK)
        code = live_read(client, deadline_us, &live, err);
    if (code != PGQ_OK)
        return code;
    if (live.schema == NULL)
        code = no_schema(&live, err);
    else if (expect == PGQ_EXPECT_PRESENT)
        lines = verify_present(&live, &client->names, &report);
    else
        lines = verify_absent(&live, &client->names, &report);
    live_release(&live);
    text = code == PGQ_OK ? buffer_steal(&report) : NULL;
    buffer_release(&report);
    if (code != PGQ_OK)
        return code;
    if (text == NULL)
        return error_nomem(err);
    *ret_report = text;
    if (lines == 0)
        return PGQ_OK;
    (void)error_set(err, PGQ_E_SCHEMA_MISMATCH,
                    "the database differs from what is expected in %zu %s", lines,
                    lines == 1 ? "place" : "places");
    error_hint(err, expect == PGQ_EXPECT_PRESENT
                        ? "run `pgqueuer install` if all is missing; `pgq upgrade` of the Python "
                          "release mends an older schema"
                        : "run pgqueuer uninstall to remove it");
    return PGQ_E_SCHEMA_MISMATCH;
}

pgq_code pgq_schema_durability(pgq_client *client, pgq_durability durability, pgq_error *err)
{
    script s = SCRIPT_INIT;
    int64_t deadline_us;
    pgq_code code = check_durability(durability, err);

    if (code == PGQ_OK)
        code = client_begin(client, &deadline_us, err);
    if (code != PGQ_OK)
        return code;
    code = render_durability(&s, &client->names, durability, err);
    return run(client, &s, code, deadline_us, "durability", err);
}

pgq_code pgq_schema_autovac(pgq_client *client, bool rollback, pgq_error *err)
{
    script s = SCRIPT_INIT;
    int64_t deadline_us;
    pgq_code code = client_begin(client, &deadline_us, err);

    if (code != PGQ_OK)
        return code;
    code = render_autovac(&s, &client->names, rollback, err);
    return run(client, &s, code, deadline_us, "autovac", err);
}

static pgq_code render_kind(script *s, const names *n, pgq_sql_kind kind,
                            const pgq_install_options *options, pgq_error *err)
{
    pgq_code code;

    switch (kind) {
    case PGQ_SQL_INSTALL:
        code = catalog_check_names(n, err);
        if (code != PGQ_OK)
            return code;
        return render_install(s, n, options->durability, options->create_schema, err);
    case PGQ_SQL_UNINSTALL:
        return render_uninstall(s, n, err);
    case PGQ_SQL_DURABILITY:
        return render_durability(s, n, options->durability, err);
    case PGQ_SQL_AUTOVAC:
    case PGQ_SQL_AUTOVAC_ROLLBACK:
        return render_autovac(s, n, kind == PGQ_SQL_AUTOVAC_ROLLBACK, err);
    default:
        return error_set(err, PGQ_E_INVALID, "there is no pgq_sql_kind %d", (int)kind);
    }
}

pgq_code pgq_schema_sql(const pgq_names *given, pgq_sql_kind kind,
                        const pgq_install_options *options, char **ret_sql, pgq_error *err)
{
    pgq_install_options own = PGQ_INSTALL_OPTIONS_INIT;
    names n;
    script s = SCRIPT_INIT;
    char *text = NULL;
    pgq_code code = base_copy_options(&own, sizeof(own), options, "pgq_install_options", err);

    if (code == PGQ_OK)
        code = check_durability(own.durability, err);
    if (code == PGQ_OK)
        code = names_resolve(given, &n, err);
    if (code != PGQ_OK)
        return code;
    code = render_kind(&s, &n, kind, &own, err);
    if (code == PGQ_OK) {
        text = script_text(&s);
        if (text == NULL)
            code = error_nomem(err);
        else
            *ret_sql = text;
    }
    script_release(&s);
    names_release(&n);
    return code;
}
