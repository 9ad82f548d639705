/* Help, from the tables of commands and options. */
#include "cli/cli.h"

#include <stdio.h>

enum {
    WIDTH = 92,
    OPTION_COLUMN = 30, /* where the text of an option begins */
    COMMAND_COLUMN = 18,
    LEFT_BYTES = 96
};

/* Prints words from column `at`, which is where the cursor stands, broken at WIDTH. */
static void print_wrapped(const char *text, size_t at)
{
    size_t column = at;

    while (*text != '\0') {
        size_t word = strcspn(text, " \n");

        if (column > at && column + 1 + word > WIDTH) {
            (void)printf("\n%*s", (int)at, "");
            column = at;
        } else if (column > at) {
            (void)putchar(' ');
            column++;
        }
        (void)printf("%.*s", (int)word, text);
        column += word;
        text += word;
        if (*text == '\n' && text[1] != '\0') {
            (void)printf("\n%*s", (int)at, "");
            column = at;
        }
        if (*text != '\0')
            text++;
    }
    (void)putchar('\n');
}

static void print_row(const char *left, const char *text, size_t at)
{
    size_t length = strlen(left);

    (void)printf("%s", left);
    if (length + 1 > at) {
        (void)putchar('\n');
        length = 0;
    }
    (void)printf("%*s", (int)(at - length), "");
    print_wrapped(text, at);
}

static void add_left(const setting_row *row, char left[LEFT_BYTES])
{
    char letter[5] = "    ";

    if (row->letter != 0)
        (void)snprintf(letter, sizeof(letter), "-%c, ", row->letter);
    if (row->type == SETTING_NEGATABLE)
        (void)snprintf(left, LEFT_BYTES, "  %s--[no-]%s", letter, row->name);
    else if (row->type == SETTING_FLAG)
        (void)snprintf(left, LEFT_BYTES, "  %s--%s", letter, row->name);
    else
        (void)snprintf(left, LEFT_BYTES, "  %s--%s %s", letter, row->name, row->placeholder);
}

/* The help of a row, and what can be said about its values: choices, default, variables. */
static void add_text(const setting_row *row, buffer *text)
{
    buffer_add_text(text, row->help);
    if (row->type == SETTING_CHOICE) {
        buffer_add_text(text, "; one of ");
        for (const char *at = row->choices; *at != '\0'; at++) {
            if (*at == '|')
                buffer_add_text(text, ", ");
            else
                buffer_add_char(text, *at);
        }
    }
    if (row->type == SETTING_NEGATABLE)
        buffer_add_format(text, " (default: %s)", row->default_text[0] == 't' ? "yes" : "no");
    else if (row->default_text != NULL)
        buffer_add_format(text, " (default: %s)", row->default_text);
    if (row->alias != NULL)
        buffer_add_format(text, " [also --%s]", row->alias);
    for (size_t i = 0; i < SETTING_ENV_MAX && row->env[i] != NULL; i++)
        buffer_add_format(text, "%s%s", i == 0 ? " [" : ", ", row->env[i]);
    if (row->env[0] != NULL)
        buffer_add_char(text, ']');
}

static void print_options(const command *cmd, option_group group, const char *heading)
{
    bool headed = false;

    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const setting_row *row = &option_rows[i];
        char left[LEFT_BYTES];
        buffer text = BUFFER_INIT;

        if (row->group != (int)group || !command_takes(cmd, i))
            continue;
        if (!headed)
            (void)printf("\n%s:\n", heading);
        headed = true;
        add_left(row, left);
        add_text(row, &text);
        print_row(left, text.broken ? row->help : text.data, OPTION_COLUMN);
        buffer_release(&text);
    }
}

void help_command(const command *cmd)
{
    (void)printf("Usage: pgqueuer %s %s\n\n", cmd->name, cmd->synopsis);
    (void)printf("%s.\n", cmd->summary);
    if (cmd->details != NULL) {
        (void)putchar('\n');
        print_wrapped(cmd->details, 0);
    }
    print_options(cmd, GROUP_COMMAND, "Options");
    print_options(cmd, GROUP_CONNECTION, "Connection");
    print_options(cmd, GROUP_NAMES, "Names of the database objects");
    print_options(cmd, GROUP_GLOBAL, "Always");
}

/* The rows of commands whose name begins with `word`; NULL: all, under their headings. */
static void print_commands(const char *word)
{
    const char *group = "";

    for (size_t i = 0; i < command_count; i++) {
        const command *cmd = &commands[i];
        char left[LEFT_BYTES];

        if (word != NULL &&
            (strncmp(cmd->name, word, strlen(word)) != 0 || cmd->name[strlen(word)] != ' '))
            continue;
        if (word == NULL && !base_streq(cmd->group, group))
            (void)printf("\n%s:\n", cmd->group);
        group = cmd->group;
        (void)snprintf(left, sizeof(left), "  %s", cmd->name);
        print_row(left, cmd->summary, COMMAND_COLUMN);
    }
}

void help_group(const char *word)
{
    (void)printf("Usage: pgqueuer %s COMMAND\n\n", word);
    print_commands(word);
    (void)printf("\n'pgqueuer help %s COMMAND' shows the options of one.\n", word);
}

void help_overview(void)
{
    (void)puts("Usage: pgqueuer COMMAND [OPTIONS]\n\nA job queue whose only server is PostgreSQL.");
    print_commands(NULL);
    (void)puts("\n'pgqueuer help COMMAND' shows the options of one.\n\n"
               "First steps: pgqueuer dev start; pgqueuer install; pgqueuer queue hello world\n\n"
               "Exit status: 0 done, 1 failed, 2 usage, 3 cannot connect, 4 schema missing or "
               "wrong,\n  5 listener failed, 6 not found, 7 duplicate key, 8 timed out.");
}

int cmd_help(cli *c)
{
    char name[64];

    if (c->arg_count == 0) {
        help_overview();
        return EXIT_DONE;
    }
    (void)snprintf(name, sizeof(name), "%s%s%s", c->args[0], c->arg_count > 1 ? " " : "",
                   c->arg_count > 1 ? c->args[1] : "");
    for (size_t i = 0; i < command_count; i++) {
        if (base_streq(commands[i].name, name)) {
            help_command(&commands[i]);
            return EXIT_DONE;
        }
    }
    if (c->arg_count == 1 && command_is_group(name)) {
        help_group(name);
        return EXIT_DONE;
    }
    return cli_usage(NULL, "there is no command '%.60s'", name);
}

int cmd_version(cli *c)
{
    (void)c;
    (void)printf("pgqueuer %s\n", PGQ_VERSION_TEXT);
    if (!base_streq(pgq_version(), PGQ_VERSION_TEXT))
        (void)printf("libpgqueuer %s\n", pgq_version());
    return EXIT_DONE;
}
