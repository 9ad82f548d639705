/* The functions of <pgqueuer/admin.h>: each looks, renders, runs in one transaction, and explains
 * a refusal in the words of who asked. */
#include <pgqueuer/admin.h>

#include "base/buffer.h"
#include "base/error.h"
#include "schema/explain.h"
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

/* Runs a script, if it was rendered, and releases it. */
static pgq_code run(pgq_client *client, script *s, pgq_code rendered, int64_t deadline_us,
                    const char *action, pgq_error *err)
{
    pgq_code code = rendered;

    if (code == PGQ_OK) {
        code = pg_conn_run_script(client->conn, s->sqls, s->count, deadline_us, err);
        if (code != PGQ_OK)
            code = explain_error(code, action, err);
    }
    script_release(s);
    return code;
}

static pgq_code already_installed(const names *n, pgq_error *err)
{
    (void)error_set(err, PGQ_E_SCHEMA_EXISTS,
                    "PgQueuer is already installed (prefix='%s', schema=%s).", n->prefix,
                    n->schema != NULL ? n->schema : "the connection's search_path");
    error_hint(err, "run `pgqueuer verify --expect present` to see whether it is complete; "
                    "`pgqueuer upgrade` completes it");
    return PGQ_E_SCHEMA_EXISTS;
}

/* What is to be made. */
typedef struct install_plan {
    bool tables, create_schema;
    bool extras, create_extras_schema;
    pgq_durability durability;
} install_plan;

/* Whether the objects can be made: their schema is there or can be created, and nothing else is. */
static pgq_code look_before_install(pgq_client *client, int64_t deadline_us,
                                    const pgq_install_options *options, install_plan *ret_plan,
                                    pgq_error *err)
{
    live_catalog live;
    pgq_code code = live_read(client, deadline_us, &live, err);

    if (code != PGQ_OK)
        return code;
    /* creating a schema asks for a right on the database even when it exists: only if need be */
    *ret_plan = (install_plan){
        .tables = !live_is_installed(&live),
        .create_schema = options->create_schema && !live.schema_exists,
        .extras = options->extras,
        .create_extras_schema = !live.extras_schema_exists,
        .durability = options->durability,
    };
    if (!ret_plan->tables && !options->extras) {
        code = already_installed(&client->names, err);
    } else if (!ret_plan->tables) {
        code = PGQ_OK;
    } else if (live.schema == NULL || (!live.schema_exists && !options->create_schema)) {
        code = explain_no_schema(&live, err);
    } else if (live.schema_exists && !live.may_create) {
        code = explain_may_not_create(&live, err);
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

static pgq_code install(pgq_client *client, int64_t deadline_us, const install_plan *plan,
                        pgq_error *err)
{
    script s = SCRIPT_INIT;
    int64_t key;
    pgq_code code = catalog_lock_key(&client->names, &key, err);

    if (code != PGQ_OK)
        return code;
    render_lock(&s, key);
    if (plan->tables)
        code = render_install(&s, &client->names, plan->durability, plan->create_schema, err);
    if (code == PGQ_OK && plan->extras)
        code = render_extras(&s, &client->names, plan->durability, plan->create_extras_schema, err);
    return run(client, &s, code, deadline_us, "install", err);
}

pgq_code pgq_schema_install(pgq_client *client, const pgq_install_options *options, pgq_error *err)
{
    pgq_install_options own = PGQ_INSTALL_OPTIONS_INIT;
    pgq_error local = PGQ_ERROR_INIT;
    install_plan plan = {.tables = false};
    int64_t deadline_us;
    pgq_code code = base_copy_options(&own, sizeof(own), options, "pgq_install_options", err);

    if (code == PGQ_OK)
        code = check_durability(own.durability, err);
    if (code == PGQ_OK)
        code = catalog_check_names(&client->names, err);
    if (code == PGQ_OK && own.extras)
        code = catalog_check_extras(&client->names, err);
    if (code == PGQ_OK)
        code = client_begin(client, &deadline_us, err);
    if (code == PGQ_OK)
        code = look_before_install(client, deadline_us, &own, &plan, err);
    if (code != PGQ_OK)
        return code;
    code = install(client, deadline_us, &plan, &local);
    /* the lock is released by who was faster, and then the objects are there: look again */
    if (code != PGQ_OK && is_duplicate(&local)) {
        pgq_code again = look_before_install(client, deadline_us, &own, &plan, err);

        if (again == PGQ_E_SCHEMA_EXISTS)
            return again;
        if (again == PGQ_OK && !plan.tables) {
            local = (pgq_error)PGQ_ERROR_INIT;
            code = install(client, deadline_us, &plan, &local);
        }
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
        code = explain_no_schema(&live, err);
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
                        ? "run `pgqueuer install` if all is missing, else `pgqueuer upgrade`; "
                          "`pgqueuer upgrade --plan` shows what it would do"
                        : "run pgqueuer uninstall to remove it");
    return PGQ_E_SCHEMA_MISMATCH;
}

pgq_code pgq_schema_has_extras(pgq_client *client, bool *ret_present, char **ret_schema,
                               pgq_error *err)
{
    live_catalog live;
    int64_t deadline_us;
    pgq_code code = client_begin(client, &deadline_us, err);

    if (code == PGQ_OK)
        code = live_read(client, deadline_us, &live, err);
    if (code != PGQ_OK)
        return code;
    *ret_present = true;
    for (size_t i = 0; i < CATALOG_EXTRA_COUNT; i++)
        *ret_present = *ret_present && live.extras[i].is_table &&
                       (catalog_extras[i].sequence == NULL || live.extras[i].sequence_type != NULL);
    for (size_t i = 0; i < CATALOG_ROUTINE_COUNT; i++)
        *ret_present = *ret_present && live.routines[i].exists;
    live_release(&live);
    if (ret_schema != NULL && base_strdup(client->names.extras, ret_schema) != PGQ_OK)
        return error_nomem(err);
    return PGQ_OK;
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
        code = render_install(s, n, options->durability, options->create_schema, err);
        if (code == PGQ_OK && options->extras)
            code = catalog_check_extras(n, err);
        if (code == PGQ_OK && options->extras)
            code = render_extras(s, n, options->durability, true, err);
        return code;
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
