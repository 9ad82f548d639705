/* completion: scripts for shells, from the tables. The words are commands and options; none of
 * them has a character that a shell treats specially. */
#include "cli/cli.h"

#include <stdio.h>

/* The first words of all commands, each once. */
static void print_first_words(void)
{
    for (size_t i = 0; i < command_count; i++) {
        size_t length = strcspn(commands[i].name, " ");
        bool repeated = i > 0 && strcspn(commands[i - 1].name, " ") == length &&
                        strncmp(commands[i - 1].name, commands[i].name, length) == 0;

        if (!repeated)
            (void)printf("%.*s ", (int)length, commands[i].name);
    }
}

static void print_second_words(const char *first, size_t length)
{
    for (size_t i = 0; i < command_count; i++) {
        if (strncmp(commands[i].name, first, length) == 0 && commands[i].name[length] == ' ')
            (void)printf("%s ", commands[i].name + length + 1);
    }
}

static void print_options(const command *cmd)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (!command_takes(cmd, i))
            continue;
        (void)printf("--%s ", option_rows[i].name);
        if (option_rows[i].type == SETTING_NEGATABLE)
            (void)printf("--no-%s ", option_rows[i].name);
    }
}

/* Calls print for each group word: "dev", "sql". */
static void each_group(void (*print)(const char *word, size_t length))
{
    for (size_t i = 0; i < command_count; i++) {
        const char *blank = strchr(commands[i].name, ' ');
        size_t length = blank != NULL ? (size_t)(blank - commands[i].name) : 0;

        if (blank != NULL &&
            (i == 0 || strncmp(commands[i - 1].name, commands[i].name, length + 1) != 0))
            print(commands[i].name, length);
    }
}

static void print_group_case(const char *word, size_t length)
{
    (void)printf("    '%.*s') words='", (int)length, word);
    print_second_words(word, length);
    (void)puts("' ;;");
}

/* Cases on "first" and "first second" that set `words`. */
static void print_cases(void)
{
    each_group(print_group_case);
    for (size_t i = 0; i < command_count; i++) {
        (void)printf("    '%s') words='", commands[i].name);
        print_options(&commands[i]);
        (void)puts("' ;;");
    }
}

static void print_choices(void)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        char word[64];

        if (option_rows[i].type != SETTING_CHOICE)
            continue;
        (void)printf("    --%s) words='", option_rows[i].name);
        for (size_t n = 0; setting_choice(option_rows[i].choices, n, word, sizeof(word)); n++)
            (void)printf("%s ", word);
        (void)puts("'; return ;;");
    }
}

/* _pgqueuer_words LAST FIRST SECOND sets `words`; both shells of the Bourne kind use it. */
static void print_bourne(void)
{
    (void)puts("_pgqueuer_words() {\n    case \"$1\" in");
    print_choices();
    (void)puts("    esac\n    case \"$2\" in");
    (void)printf("    '') words='");
    print_first_words();
    (void)puts("'; return ;;\n    esac\n    case \"$2${3:+ $3}\" in");
    print_cases();
    (void)puts("    *) case \"$2\" in");
    print_cases();
    (void)puts("    esac ;;\n    esac\n}");
}

static void print_bash(void)
{
    print_bourne();
    (void)puts("_pgqueuer() {\n"
               "    local words='' i first='' second=''\n"
               "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
               "        case \"${COMP_WORDS[i]}\" in\n"
               "        -*) continue ;;\n"
               "        *) if [ -z \"$first\" ]; then first=${COMP_WORDS[i]}\n"
               "           elif [ -z \"$second\" ]; then second=${COMP_WORDS[i]}; fi ;;\n"
               "        esac\n"
               "    done\n"
               "    _pgqueuer_words \"${COMP_WORDS[COMP_CWORD-1]}\" \"$first\" \"$second\"\n"
               "    COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
               "}\n"
               "complete -o default -F _pgqueuer pgqueuer");
}

static void print_zsh(void)
{
    (void)puts("#compdef pgqueuer");
    print_bourne();
    (void)puts("_pgqueuer() {\n"
               "    local given=(\"${(@)words[2,CURRENT-1]}\") last=${words[CURRENT-1]}\n"
               "    local plain=(\"${(@)given:#-*}\")\n"
               "    local words=''\n"
               "    _pgqueuer_words \"$last\" \"${plain[1]}\" \"${plain[2]}\"\n"
               "    compadd -- ${=words} || _files\n"
               "}\n"
               "compdef _pgqueuer pgqueuer");
}

static void print_fish_group(const char *word, size_t length)
{
    (void)printf("complete -c pgqueuer -n '__fish_seen_subcommand_from %.*s' -a '", (int)length,
                 word);
    print_second_words(word, length);
    (void)puts("'");
}

static void print_fish_option(const command *cmd, const setting_row *row)
{
    const char *blank = strchr(cmd->name, ' ');
    int length = (int)strcspn(cmd->name, " ");
    char word[64];

    (void)printf("complete -c pgqueuer -n '__fish_seen_subcommand_from %.*s", length, cmd->name);
    if (blank != NULL)
        (void)printf("; and __fish_seen_subcommand_from %s", blank + 1);
    (void)printf("' -l %s", row->name);
    if (setting_takes_value(row))
        (void)printf(" -r");
    if (row->type == SETTING_CHOICE) {
        (void)printf(" -f -a '");
        for (size_t n = 0; setting_choice(row->choices, n, word, sizeof(word)); n++)
            (void)printf("%s ", word);
        (void)putchar('\'');
    }
    (void)putchar('\n');
}

static void print_fish(void)
{
    (void)printf("complete -c pgqueuer -n __fish_use_subcommand -f -a '");
    print_first_words();
    (void)puts("'");
    each_group(print_fish_group);
    for (size_t i = 0; i < command_count; i++) {
        for (size_t n = 0; n < OPTION_COUNT; n++) {
            if (command_takes(&commands[i], n))
                print_fish_option(&commands[i], &option_rows[n]);
        }
    }
}

int cmd_completion(cli *c)
{
    if (base_streq(c->args[0], "bash"))
        print_bash();
    else if (base_streq(c->args[0], "zsh"))
        print_zsh();
    else if (base_streq(c->args[0], "fish"))
        print_fish();
    else
        return cli_usage(c->command, "there is no completion for '%.64s'; allowed: bash, zsh, fish",
                         c->args[0]);
    return EXIT_DONE;
}
