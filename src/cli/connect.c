/* From the settings to a connection: which database, under which names. */
#include "base/error.h"
#include "cli/cli.h"
#include "cli/dev.h"

#include <stdio.h>
#include <stdlib.h>

/* Any of these means that libpq was told where to connect. */
static const char *const libpq_variables[] = {"PGHOST", "PGHOSTADDR", "PGPORT",       "PGDATABASE",
                                              "PGUSER", "PGSERVICE",  "PGSERVICEFILE"};

/* The options that are parts of a DSN, and libpq's words for them. */
static const struct {
    option_id option;
    const char *keyword;
} dsn_parts[] = {
    {OPT_HOST, "host"},       {OPT_PORT, "port"},         {OPT_USER, "user"},
    {OPT_DATABASE, "dbname"}, {OPT_PASSWORD, "password"},
};

const pgq_names *cli_names(cli *c)
{
    c->names.prefix = cli_text(c, OPT_PREFIX);
    c->names.schema = cli_text(c, OPT_SCHEMA);
    c->names.channel = cli_text(c, OPT_CHANNEL);
    c->names.function = cli_text(c, OPT_FUNCTION);
    c->names.trigger = cli_text(c, OPT_TRIGGER);
    c->names.queue_table = cli_text(c, OPT_QUEUE_TABLE);
    c->names.log_table = cli_text(c, OPT_LOG_TABLE);
    c->names.statistics_table = cli_text(c, OPT_STATISTICS_TABLE);
    c->names.schedules_table = cli_text(c, OPT_SCHEDULES_TABLE);
    c->names.status_type = cli_text(c, OPT_STATUS_TYPE);
    return &c->names;
}

static bool libpq_is_told(void)
{
    for (size_t i = 0; i < BASE_COUNT(libpq_variables); i++) {
        if (base_given(getenv(libpq_variables[i])))
            return true;
    }
    return false;
}

/* The strongest origin of the --pg-... options; SETTING_UNSET when none is given. */
static setting_origin parts_origin(const cli *c)
{
    setting_origin strongest = SETTING_UNSET;

    for (size_t i = 0; i < BASE_COUNT(dsn_parts); i++) {
        const setting_value *value = &c->settings.values[dsn_parts[i].option];

        if (value->origin > strongest)
            strongest = value->origin;
    }
    return strongest;
}

static void add_part(buffer *dsn, const char *keyword, const char *text)
{
    buffer_add_format(dsn, "%s%s='", dsn->len > 0 ? " " : "", keyword);
    for (; *text != '\0'; text++) {
        if (*text == '\'' || *text == '\\')
            buffer_add_char(dsn, '\\');
        buffer_add_char(dsn, *text);
    }
    buffer_add_char(dsn, '\'');
}

static pgq_code dsn_from_parts(cli *c, pgq_error *err)
{
    buffer dsn = BUFFER_INIT;

    for (size_t i = 0; i < BASE_COUNT(dsn_parts); i++) {
        if (cli_text(c, dsn_parts[i].option) != NULL)
            add_part(&dsn, dsn_parts[i].keyword, cli_text(c, dsn_parts[i].option));
    }
    c->dsn = buffer_steal(&dsn);
    return c->dsn != NULL ? PGQ_OK : error_nomem(err);
}

/* Leaves *ret_dsn NULL when libpq's own variables and defaults decide. */
static pgq_code choose_dsn(cli *c, const char **ret_dsn, pgq_error *err)
{
    const setting_value *dsn = &c->settings.values[OPT_DSN];
    setting_origin parts = parts_origin(c);
    pgq_code code;

    *ret_dsn = NULL;
    if (dsn->origin != SETTING_UNSET && dsn->origin == parts) {
        (void)error_set(err, PGQ_E_INVALID,
                        "a DSN and single --pg-... values contradict each "
                        "other");
        error_where(err, "%s", dsn->source);
        error_hint(err, "give either --dsn or --pg-host, --pg-port, --pg-user, --pg-database");
        return PGQ_E_INVALID;
    }
    if (parts > dsn->origin) {
        code = dsn_from_parts(c, err);
        *ret_dsn = c->dsn;
        return code;
    }
    *ret_dsn = cli_text(c, OPT_DSN);
    if (*ret_dsn != NULL || libpq_is_told())
        return PGQ_OK;
    code = dev_find_dsn(".", &c->dsn, err);
    if (code == PGQ_OK && c->dsn != NULL)
        (void)fprintf(stderr, "pgqueuer: using the private PostgreSQL of ./%s\n", DEV_FOLDER);
    *ret_dsn = c->dsn;
    return code;
}

pgq_code cli_connect_options(cli *c, pgq_connect_options *options, pgq_error *err)
{
    pgq_code code;

    *options = (pgq_connect_options)PGQ_CONNECT_OPTIONS_INIT;
    options->names = cli_names(c);
    options->application_name = cli_text(c, OPT_APPLICATION_NAME);
    options->connect_timeout_ms = (int)cli_number(c, OPT_CONNECT_TIMEOUT);
    options->log_policy = (pgq_log_policy)(cli_number(c, OPT_LOG_POLICY) + 1);
    code = choose_dsn(c, &options->dsn, err);
    return code;
}

void cli_explain_connection(const cli *c, pgq_error *err)
{
    const setting_value *dsn = &c->settings.values[OPT_DSN];

    if (err->code != PGQ_E_CONNECT && err->code != PGQ_E_INVALID && err->code != PGQ_E_AUTH)
        return;
    if (c->dsn != NULL)
        return;
    if (dsn->origin == SETTING_UNSET && !libpq_is_told() && err->code != PGQ_E_INVALID)
        error_hint(err, "no database was given: use --dsn or PGQUEUER_DSN, or start a private one "
                        "with 'pgqueuer dev start'");
    else if (dsn->origin != SETTING_UNSET && err->where[0] == '\0')
        error_where(err, "%s", dsn->source);
}

pgq_code cli_open(cli *c, pgq_client **ret_client, pgq_error *err)
{
    pgq_connect_options options;
    pgq_code code = cli_connect_options(c, &options, err);

    if (code != PGQ_OK)
        return code;
    code = pgq_client_open(&options, ret_client, err);
    if (code != PGQ_OK)
        cli_explain_connection(c, err);
    return code;
}
