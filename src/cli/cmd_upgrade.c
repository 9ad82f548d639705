/* upgrade, and its plan as a script that psql can run or as a JSON document. */
#include "base/error.h"
#include "cli/cli.h"

#include <inttypes.h>
#include <stdio.h>

static void print_note(void *user, const char *text)
{
    (void)user;
    (void)fprintf(stderr, "%s\n", text);
}

static pgq_upgrade_options upgrade_options(const cli *c)
{
    pgq_upgrade_options options = PGQ_UPGRADE_OPTIONS_INIT;

    options.durability = (pgq_durability)cli_number(c, OPT_DURABILITY);
    options.extras = cli_flag(c, OPT_EXTRAS);
    options.widen_ids = cli_flag(c, OPT_WIDEN_ID);
    options.lock_timeout_ms = (int)cli_number(c, OPT_LOCK_TIMEOUT);
    options.patience_ms = cli_number(c, OPT_PATIENCE);
    options.note = print_note;
    return options;
}

static bool is_note(const pgq_plan_step *step)
{
    return step->sql[0] == '\0';
}

static void add_member(buffer *out, const char *name, const char *text)
{
    buffer_add_format(out, "\"%s\": ", name);
    buffer_add_json(out, text, strlen(text));
}

static void add_step(buffer *out, const pgq_plan_step *step)
{
    buffer_add_text(out, "    {");
    add_member(out, "what", step->what);
    buffer_add_text(out, ", ");
    add_member(out, "why", step->why);
    buffer_add_text(out, ",\n     ");
    add_member(out, "sql", step->sql);
    buffer_add_text(out, ",\n     ");
    add_member(out, "table", step->table);
    buffer_add_text(out, ", ");
    add_member(out, "lock", step->lock);
    buffer_add_format(out, ", \"rewrites\": %s, \"rows\": ", step->rewrites ? "true" : "false");
    if (step->rows >= 0)
        buffer_add_format(out, "%" PRId64 "}", step->rows);
    else
        buffer_add_text(out, "null}");
}

static void add_document(buffer *out, const pgq_plan *plan)
{
    buffer_add_text(out, "{\"steps\": [");
    for (size_t i = 0; i < pgq_plan_count(plan); i++) {
        buffer_add_text(out, i > 0 ? ",\n" : "\n");
        add_step(out, pgq_plan_step_at(plan, i));
    }
    buffer_add_text(out, "]}\n");
}

/* The table of all steps, as a comment of the script. */
static void add_table(buffer *out, const pgq_plan *plan)
{
    buffer_add_format(out, "--  %3s  %-22s %-8s %10s  %-22s %s\n", "", "lock", "rewrite", "rows",
                      "table", "step");
    for (size_t i = 0; i < pgq_plan_count(plan); i++) {
        const pgq_plan_step *step = pgq_plan_step_at(plan, i);
        char rows[24] = "-";

        if (step->rows >= 0)
            (void)snprintf(rows, sizeof(rows), "%" PRId64, step->rows);
        buffer_add_format(out, "--  %3zu  %-22s %-8s %10s  %-22s %s\n", i + 1,
                          step->lock[0] != '\0' ? step->lock : "-", step->rewrites ? "yes" : "no",
                          rows, step->table[0] != '\0' ? step->table : "-", step->what);
    }
}

static void add_script(buffer *out, const pgq_plan *plan)
{
    if (pgq_plan_count(plan) == 0)
        return;
    buffer_add_text(
        out, "-- What pgqueuer upgrade would do in this database now. Locks are held for the "
             "statement only;\n"
             "-- rows are the server's estimate. For psql, without --single-transaction.\n"
             "--\n");
    add_table(out, plan);
    for (size_t i = 0; i < pgq_plan_count(plan); i++) {
        const pgq_plan_step *step = pgq_plan_step_at(plan, i);

        buffer_add_format(out, "\n-- %zu. %s: %s\n%s%s", i + 1, step->what, step->why, step->sql,
                          is_note(step) ? "" : "\n");
    }
}

static size_t tell_notes(const pgq_plan *plan)
{
    size_t steps = 0;

    for (size_t i = 0; i < pgq_plan_count(plan); i++) {
        const pgq_plan_step *step = pgq_plan_step_at(plan, i);

        if (is_note(step))
            (void)fprintf(stderr, "note: %s: %s\n", step->what, step->why);
        else
            steps++;
    }
    return steps;
}

static pgq_code print_plan(const cli *c, const pgq_plan *plan, pgq_error *err)
{
    buffer out = BUFFER_INIT;
    pgq_code code = PGQ_OK;
    size_t steps = tell_notes(plan);

    if (cli_flag(c, OPT_JSON))
        add_document(&out, plan);
    else
        add_script(&out, plan);
    if (out.broken)
        code = error_nomem(err);
    else if (out.len > 0 &&
             (fwrite(out.data, 1, out.len, stdout) != out.len || fflush(stdout) != 0))
        code = error_set(err, PGQ_E_IO, "cannot write the plan");
    buffer_release(&out);
    if (code == PGQ_OK && steps > 0)
        (void)fprintf(stderr, "Would take %zu %s.\n", steps, steps == 1 ? "step" : "steps");
    else if (code == PGQ_OK)
        (void)fputs("PgQueuer schema is already up to date.\n", stderr);
    return code;
}

static pgq_code plan(cli *c, pgq_client *client, const pgq_upgrade_options *options, pgq_error *err)
{
    pgq_plan *made = NULL;
    pgq_code code = pgq_schema_plan(client, options, &made, err);

    if (code == PGQ_OK)
        code = print_plan(c, made, err);
    (void)pgq_plan_free(made);
    return code;
}

static pgq_code upgrade(pgq_client *client, const pgq_upgrade_options *options, pgq_error *err)
{
    size_t applied = 0;
    pgq_code code = pgq_schema_upgrade(client, options, &applied, err);

    if (code == PGQ_OK && applied == 0)
        (void)fputs("PgQueuer schema is already up to date.\n", stderr);
    else if (code == PGQ_OK || applied > 0)
        (void)fprintf(stderr, "Applied %zu %s.\n", applied,
                      applied == 1 ? "statement" : "statements");
    return code;
}

int cmd_upgrade(cli *c)
{
    pgq_upgrade_options options = upgrade_options(c);
    pgq_client *client = NULL;
    pgq_error err = PGQ_ERROR_INIT;
    pgq_code code;

    if (cli_flag(c, OPT_JSON) && !cli_flag(c, OPT_PLAN))
        return cli_usage(c->command, "--json is for --plan");
    code = cli_open(c, &client, &err);
    if (code == PGQ_OK)
        code = cli_flag(c, OPT_PLAN) ? plan(c, client, &options, &err)
                                     : upgrade(client, &options, &err);
    (void)pgq_client_free(client);
    return code == PGQ_OK ? EXIT_DONE : cli_report(&err);
}
