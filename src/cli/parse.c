/* From argv to a command and its settings. getopt_long splits; the tables say what is allowed. */
#include "base/error.h"
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    LONG_VALUE = 256,            /* getopt values of long options begin here, above any letter */
    NEGATED_VALUE = 1024,        /* and those of their --no- forms here */
    LONG_MAX = OPTION_COUNT * 3, /* name, alias and --no- form */
    NAME_BYTES = 64,
    DISTANCE_MAX = 2
};

/* getopt's tables for a set of rows. */
typedef struct option_table {
    struct option longs[LONG_MAX + 1];
    char negated[OPTION_COUNT][NAME_BYTES]; /* the texts of --no- forms */
    char letters[OPTION_COUNT * 2 + 3];
} option_table;

bool command_takes(const command *cmd, size_t option)
{
    switch ((option_group)option_rows[option].group) {
    case GROUP_GLOBAL:
        return true;
    case GROUP_CONNECTION:
        return cmd->connects;
    case GROUP_NAMES:
        return cmd->names;
    case GROUP_COMMAND:
        break;
    }
    for (size_t i = 0; cmd->options != NULL && cmd->options[i] != OPTION_END; i++) {
        if (cmd->options[i] == option)
            return true;
    }
    return false;
}

static void add_long(option_table *t, size_t *at, const char *name, bool takes_value, int value)
{
    t->longs[*at] =
        (struct option){name, takes_value ? required_argument : no_argument, NULL, value};
    (*at)++;
}

/* The options of a command; with NULL the long ones of all commands, and the global letters. */
static void make_table(option_table *t, const command *cmd, const char *mode)
{
    size_t at = 0, letter = strlen(mode);

    memset(t, 0, sizeof(*t));
    memcpy(t->letters, mode, letter);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const setting_row *row = &option_rows[i];
        bool takes_value = setting_takes_value(row);

        if (cmd != NULL && !command_takes(cmd, i))
            continue;
        add_long(t, &at, row->name, takes_value, LONG_VALUE + (int)i);
        if (row->alias != NULL)
            add_long(t, &at, row->alias, takes_value, LONG_VALUE + (int)i);
        if (row->type == SETTING_NEGATABLE) {
            (void)snprintf(t->negated[i], NAME_BYTES, "no-%s", row->name);
            add_long(t, &at, t->negated[i], false, NEGATED_VALUE + (int)i);
        }
        if (row->letter == 0 || (cmd == NULL && row->group != GROUP_GLOBAL))
            continue;
        t->letters[letter++] = row->letter;
        if (takes_value)
            t->letters[letter++] = ':';
    }
}

/* The length of an option's name in "--name=value". */
static int name_length(const char *word)
{
    return (int)strcspn(word, "=");
}

/* Says that an option is unknown, and which one was probably meant. */
static int unknown_option(const command *cmd, const char *word)
{
    char given[NAME_BYTES];
    const char *best = NULL;
    size_t best_distance = DISTANCE_MAX + 1;
    bool negated;
    size_t index;

    if (strncmp(word, "--", 2) != 0)
        return cli_usage(cmd,
                         "there is no option '%.2s' (an argument that begins with '-' goes "
                         "after '--')",
                         word);
    (void)snprintf(given, sizeof(given), "%.*s", name_length(word + 2), word + 2);
    index = settings_find(option_rows, OPTION_COUNT, given, &negated);
    if (index < OPTION_COUNT && cmd != NULL)
        return cli_usage(cmd, "'%s' takes no option --%s", cmd->name, given);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        size_t distance;

        if (cmd != NULL && !command_takes(cmd, i))
            continue;
        distance = strncmp(option_rows[i].name, given, strlen(given)) == 0 && given[0] != '\0'
                       ? 1
                       : setting_distance(given, option_rows[i].name, DISTANCE_MAX);
        if (distance < best_distance) {
            best = option_rows[i].name;
            best_distance = distance;
        }
    }
    if (best != NULL)
        return cli_usage(cmd, "there is no option --%s; did you mean --%s?", given, best);
    return cli_usage(cmd, "there is no option --%s", given);
}

/* What getopt returned instead of an option. -1: it is an option. */
static int check_option(const command *cmd, int value, char **argv)
{
    const char *word = argv[optind - 1];

    if (value == ':')
        return cli_usage(cmd, "%.*s needs a value", name_length(word), word);
    if (value == '?' && optopt >= LONG_VALUE)
        return cli_usage(cmd, "%.*s takes no value", name_length(word), word);
    if (value == '?') {
        char letter[3] = {'-', (char)optopt, '\0'};

        return unknown_option(cmd, optopt != 0 ? letter : word);
    }
    return -1;
}

/* getopt takes any unambiguous beginning of a name; we do not, because the next release may make
 * it ambiguous. `word` is the option as it was written. */
static bool is_whole_name(const char *word, const char *name)
{
    return strncmp(word, "--", 2) != 0 || (strlen(name) == (size_t)name_length(word + 2) &&
                                           strncmp(word + 2, name, strlen(name)) == 0);
}

/* The place in argv of the command, argc when there is none; or -1, with *ret_status set. */
static int find_command_word(int argc, char **argv, bool *ret_help, bool *ret_version,
                             int *ret_status)
{
    option_table t;
    int value;

    make_table(&t, NULL, "+:");
    optind = 0;
    opterr = 0;
    while ((value = getopt_long(argc, argv, t.letters, t.longs, NULL)) != -1) {
        *ret_status = check_option(NULL, value, argv);
        if (*ret_status >= 0)
            return -1;
        *ret_help = *ret_help || value == 'h' || value == LONG_VALUE + OPT_HELP;
        *ret_version = *ret_version || value == 'V' || value == LONG_VALUE + OPT_VERSION;
    }
    return optind;
}

static const command *find_command(const char *first, const char *second)
{
    char name[NAME_BYTES];

    (void)snprintf(name, sizeof(name), "%s%s%s", first, second != NULL ? " " : "",
                   second != NULL ? second : "");
    for (size_t i = 0; i < command_count; i++) {
        if (base_streq(commands[i].name, name))
            return &commands[i];
    }
    return NULL;
}

bool command_is_group(const char *word)
{
    size_t length = strlen(word);

    for (size_t i = 0; i < command_count; i++) {
        if (strncmp(commands[i].name, word, length) == 0 && commands[i].name[length] == ' ')
            return true;
    }
    return false;
}

/* How far a word is from the first word of a command's name: a group may be mistyped. */
static size_t first_word_distance(const char *word, const char *name)
{
    size_t length = strcspn(name, " ");
    char first[NAME_BYTES];

    if (length >= sizeof(first))
        return DISTANCE_MAX + 1;
    memcpy(first, name, length);
    first[length] = '\0';
    return setting_distance(word, first, DISTANCE_MAX);
}

static int unknown_command(const char *first, const char *second)
{
    char name[NAME_BYTES];
    const char *best = NULL;
    size_t best_distance = DISTANCE_MAX + 1, length;

    (void)snprintf(name, sizeof(name), "%s%s%s", first, second != NULL ? " " : "",
                   second != NULL ? second : "");
    length = strlen(name);
    for (size_t i = 0; i < command_count; i++) {
        size_t distance = setting_distance(name, commands[i].name, DISTANCE_MAX);
        size_t word_distance = first_word_distance(name, commands[i].name);

        if (word_distance < distance)
            distance = word_distance;
        if (strncmp(commands[i].name, name, length) == 0 && length > 0)
            distance = 1;
        if (distance < best_distance && distance < length) {
            best = commands[i].name;
            best_distance = distance;
        }
    }
    if (best != NULL)
        return cli_usage(NULL, "there is no command '%s'; did you mean '%s'?", name, best);
    return cli_usage(NULL, "there is no command '%s'", name);
}

/* Finds the command at argv[at] and how many words its name has; -1 or the exit status. */
static int choose_command(cli *c, int argc, char **argv, int at, int *ret_words)
{
    const char *second = at + 1 < argc ? argv[at + 1] : NULL;

    *ret_words = 1;
    c->command = find_command(argv[at], NULL);
    if (c->command != NULL)
        return -1;
    if (!command_is_group(argv[at]))
        return unknown_command(argv[at], NULL);
    if (second != NULL && (base_streq(second, "--help") || base_streq(second, "-h"))) {
        help_group(argv[at]);
        return EXIT_DONE;
    }
    if (second == NULL) {
        help_group(argv[at]);
        return EXIT_USAGE;
    }
    *ret_words = 2;
    c->command = find_command(argv[at], second);
    if (c->command == NULL)
        return unknown_command(argv[at], second);
    return -1;
}

/* Takes one option into the settings; -1 or the exit status. */
static int take_option(cli *c, int value, char **argv)
{
    const char *word = argv[optind - 1];
    pgq_error err = PGQ_ERROR_INIT;
    char source[NAME_BYTES];
    bool negated = value >= NEGATED_VALUE;
    size_t index = 0;
    const setting_row *row;

    if (value < LONG_VALUE) {
        while (option_rows[index].letter != value || !command_takes(c->command, index))
            index++;
    } else {
        index = (size_t)(value - (negated ? NEGATED_VALUE : LONG_VALUE));
    }
    row = &option_rows[index];
    if (setting_takes_value(row) && optarg == word)
        word = argv[optind - 2];
    (void)snprintf(source, sizeof(source), negated ? "--no-%s" : "--%s", row->name);
    if (value >= LONG_VALUE && !is_whole_name(word, source + 2) &&
        (row->alias == NULL || !is_whole_name(word, row->alias)))
        return unknown_option(c->command, word);
    /* an empty --prefix or --dsn is "not given", as in the environment; an empty --at is a slip */
    if (row->type == SETTING_TEXT && row->group == GROUP_COMMAND && optarg[0] == '\0')
        return cli_usage(c->command, "%s needs a value, not an empty text", source);
    if (settings_give(&c->settings, index, SETTING_ARGUMENT, source,
                      setting_takes_value(row) ? optarg
                      : negated                ? "false"
                                               : "true",
                      &err) != PGQ_OK)
        return cli_report(&err);
    return -1;
}

/* The second pass: the options and arguments of the command. */
static int split(cli *c, int argc, char **argv)
{
    option_table t;
    int value, status = -1;

    make_table(&t, c->command, "-:");
    optind = 0;
    while (status < 0 && (value = getopt_long(argc, argv, t.letters, t.longs, NULL)) != -1) {
        if (value == 1) {
            c->args[c->arg_count++] = optarg;
            continue;
        }
        status = check_option(c->command, value, argv);
        if (status < 0)
            status = take_option(c, value, argv);
    }
    if (status >= 0)
        return status;
    if (c->command->passes_rest) {
        c->rest = argv + optind;
        c->rest_count = (size_t)(argc - optind);
        return -1;
    }
    while (optind < argc)
        c->args[c->arg_count++] = argv[optind++];
    return -1;
}

/* Environment, file and the parsing of what the command uses. */
static pgq_code complete_settings(cli *c, pgq_error *err)
{
    pgq_code code = settings_read_environment(&c->settings, err);

    if (code == PGQ_OK && cli_text(c, OPT_CONFIG) != NULL)
        code = settings_read_file(&c->settings, cli_text(c, OPT_CONFIG), err);
    for (size_t i = 0; code == PGQ_OK && i < OPTION_COUNT; i++) {
        if (command_takes(c->command, i))
            code = settings_parse(&c->settings, i, err);
    }
    return code;
}

static int check_counts(const cli *c)
{
    if (c->arg_count < c->command->args_min)
        return cli_usage(c->command, "'%s' needs %.*s", c->command->name,
                         (int)strcspn(c->command->synopsis, " "), c->command->synopsis);
    if (c->arg_count > c->command->args_max)
        return cli_usage(c->command, "'%s' does not take the argument '%.64s'", c->command->name,
                         c->args[c->command->args_max]);
    return -1;
}

int cli_parse(cli *c, int argc, char **argv)
{
    bool help = false, version = false;
    pgq_error err = PGQ_ERROR_INIT;
    int status = -1, words = 1;
    int at = find_command_word(argc, argv, &help, &version, &status);

    if (at < 0)
        return status;
    if (version || help || at >= argc) {
        if (version)
            return cmd_version(c);
        help_overview();
        return help ? EXIT_DONE : EXIT_USAGE;
    }
    status = choose_command(c, argc, argv, at, &words);
    if (status >= 0)
        return status;

    /* words holds argv without the command's name, then the arguments. */
    c->words = calloc((size_t)argc * 2 + 2, sizeof(*c->words));
    if (c->words == NULL) {
        (void)error_nomem(&err);
        return cli_report(&err);
    }
    if (settings_init(&c->settings, option_rows, OPTION_COUNT, &err) != PGQ_OK)
        return cli_report(&err);
    memcpy(c->words, argv, (size_t)at * sizeof(*argv));
    memcpy(c->words + at, argv + at + words, (size_t)(argc - at - words) * sizeof(*argv));
    c->args = c->words + argc + 1;
    status = split(c, argc - words, c->words);
    if (status >= 0)
        return status;
    if (c->settings.values[OPT_HELP].origin == SETTING_ARGUMENT) {
        help_command(c->command);
        return EXIT_DONE;
    }
    if (c->settings.values[OPT_VERSION].origin == SETTING_ARGUMENT)
        return cmd_version(c);
    status = check_counts(c);
    if (status >= 0)
        return status;
    return complete_settings(c, &err) == PGQ_OK ? -1 : cli_report(&err);
}
