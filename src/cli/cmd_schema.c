/* install, uninstall, verify, durability, autovac, and the sql commands that print the same. The
 * texts are those of the Python release: scripts compare them. */
#include "base/error.h"
#include "cli/cli.h"

#include <stdio.h>

static pgq_install_options install_options(const cli *c)
{
    pgq_install_options options = PGQ_INSTALL_OPTIONS_INIT;

    options.durability = (pgq_durability)cli_number(c, OPT_DURABILITY);
    options.create_schema = cli_flag(c, OPT_CREATE_SCHEMA);
    options.extras = cli_flag(c, OPT_EXTRAS);
    return options;
}

/* Ends a command that changed something: `format` is printed on success. */
static int finish(pgq_client *client, pgq_code code, const pgq_error *err, const char *done)
{
    (void)pgq_client_free(client);
    if (code != PGQ_OK)
        return cli_report(err);
    (void)fprintf(stderr, "%s\n", done);
    return EXIT_DONE;
}

int cmd_install(cli *c)
{
    pgq_install_options options = install_options(c);
    pgq_client *client = NULL;
    pgq_error err = PGQ_ERROR_INIT;
    char done[80];
    pgq_code code = cli_open(c, &client, &err);

    if (code == PGQ_OK)
        code = pgq_schema_install(client, &options, &err);
    if (options.extras)
        return finish(client, code, &err, "The PgQueuer schema and its extras are installed.");
    (void)snprintf(done, sizeof(done), "Installed PgQueuer schema (durability=%s).",
                   pgq_durability_name(options.durability));
    return finish(client, code, &err, done);
}

int cmd_uninstall(cli *c)
{
    pgq_client *client = NULL;
    pgq_error err = PGQ_ERROR_INIT;
    pgq_code code = cli_open(c, &client, &err);

    if (code == PGQ_OK)
        code = pgq_schema_uninstall(client, &err);
    return finish(client, code, &err, "Uninstalled PgQueuer schema.");
}

/* A word about the extras, for people: scripts compare what is on standard output. */
static pgq_code tell_extras(pgq_client *client, pgq_error *err)
{
    char *schema = NULL;
    bool present = false;
    pgq_code code = pgq_schema_has_extras(client, &present, &schema, err);

    if (code == PGQ_OK && present)
        (void)fprintf(stderr, "The extras are installed (schema %s).\n", schema);
    else if (code == PGQ_OK)
        (void)fputs("The extras are not installed; pgqueuer install --extras adds them.\n", stderr);
    pgq_text_free(schema);
    return code;
}

int cmd_verify(cli *c)
{
    pgq_expect expect = (pgq_expect)cli_number(c, OPT_EXPECT);
    pgq_client *client = NULL;
    pgq_error err = PGQ_ERROR_INIT;
    char *report = NULL;
    pgq_code code;

    if (!cli_given(c, OPT_EXPECT))
        return cli_usage(c->command, "say --expect present or --expect absent");
    code = cli_open(c, &client, &err);
    if (code == PGQ_OK)
        code = pgq_schema_verify(client, expect, &report, &err);
    if (code == PGQ_OK && expect == PGQ_EXPECT_PRESENT)
        code = tell_extras(client, &err);
    (void)pgq_client_free(client);
    if (code == PGQ_OK) {
        (void)puts(expect == PGQ_EXPECT_PRESENT
                       ? "All required PgQueuer database objects are present."
                       : "No PgQueuer database objects found");
    } else if (report != NULL) {
        (void)fputs(report, stdout);
    }
    pgq_text_free(report);
    if (code == PGQ_E_SCHEMA_MISMATCH)
        return EXIT_FAILED; /* the report has said it */
    return code == PGQ_OK ? EXIT_DONE : cli_report(&err);
}

/* The argument LEVEL; -1 or the exit status. */
static int read_level(const cli *c, pgq_durability *ret_level)
{
    pgq_error err = PGQ_ERROR_INIT;

    if (pgq_durability_parse(c->args[0], ret_level, &err) == PGQ_OK)
        return -1;
    return cli_usage(c->command,
                     "the level cannot be '%.64s'; allowed: durable, balanced, volatile",
                     c->args[0]);
}

int cmd_durability(cli *c)
{
    pgq_durability level;
    pgq_client *client = NULL;
    pgq_error err = PGQ_ERROR_INIT;
    char done[80];
    pgq_code code;

    if (read_level(c, &level) >= 0)
        return EXIT_USAGE;
    code = cli_open(c, &client, &err);
    if (code == PGQ_OK)
        code = pgq_schema_durability(client, level, &err);
    (void)snprintf(done, sizeof(done), "Set PgQueuer durability to %s.",
                   pgq_durability_name(level));
    return finish(client, code, &err, done);
}

int cmd_autovac(cli *c)
{
    bool rollback = cli_flag(c, OPT_ROLLBACK);
    pgq_client *client = NULL;
    pgq_error err = PGQ_ERROR_INIT;
    pgq_code code = cli_open(c, &client, &err);

    if (code == PGQ_OK)
        code = pgq_schema_autovac(client, rollback, &err);
    return finish(client, code, &err,
                  rollback ? "Reset autovacuum settings to defaults."
                           : "Applied recommended autovacuum settings.");
}

static int print_sql(cli *c, pgq_sql_kind kind, const pgq_install_options *options)
{
    pgq_error err = PGQ_ERROR_INIT;
    char *sql = NULL;

    if (pgq_schema_sql(cli_names(c), kind, options, &sql, &err) != PGQ_OK)
        return cli_report(&err);
    (void)fputs(sql, stdout);
    if (sql[0] != '\0' && sql[strlen(sql) - 1] != '\n')
        (void)putchar('\n');
    pgq_text_free(sql);
    return EXIT_DONE;
}

int cmd_sql_upgrade(cli *c)
{
    pgq_upgrade_options options = PGQ_UPGRADE_OPTIONS_INIT;
    pgq_error err = PGQ_ERROR_INIT;
    char *sql = NULL;

    options.durability = (pgq_durability)cli_number(c, OPT_DURABILITY);
    options.extras = cli_flag(c, OPT_EXTRAS);
    options.widen_ids = cli_flag(c, OPT_WIDEN_ID);
    if (pgq_schema_upgrade_sql(cli_names(c), &options, &sql, &err) != PGQ_OK)
        return cli_report(&err);
    (void)fputs(sql, stdout);
    pgq_text_free(sql);
    return EXIT_DONE;
}

int cmd_sql_install(cli *c)
{
    pgq_install_options options = install_options(c);

    return print_sql(c, PGQ_SQL_INSTALL, &options);
}

int cmd_sql_uninstall(cli *c)
{
    return print_sql(c, PGQ_SQL_UNINSTALL, NULL);
}

int cmd_sql_durability(cli *c)
{
    pgq_install_options options = PGQ_INSTALL_OPTIONS_INIT;

    if (read_level(c, &options.durability) >= 0)
        return EXIT_USAGE;
    return print_sql(c, PGQ_SQL_DURABILITY, &options);
}

int cmd_sql_autovac(cli *c)
{
    return print_sql(c, cli_flag(c, OPT_ROLLBACK) ? PGQ_SQL_AUTOVAC_ROLLBACK : PGQ_SQL_AUTOVAC,
                     NULL);
}
