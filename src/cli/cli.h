/* The frame of the program: what a command is, what it is given, how it reports.
 *
 * Adding a command: one file in src/cli with its function, one row in commands.c. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "base/buffer.h"
#include "cli/options.h"

#include <pgqueuer/pgqueuer.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

typedef struct cli cli;

typedef struct command {
    const char *name;     /* one word, or two with a blank */
    const char *group;    /* heading in the list of commands */
    const char *synopsis; /* what follows the name */
    const char *summary;
    const char *details; /* further paragraphs of the help, or NULL */
    int (*run)(cli *c);  /* returns the exit status */
    bool connects;       /* takes the connection's options */
    bool names;          /* takes the names' options */
    bool passes_rest;    /* what follows `--` goes to somebody else */
    size_t args_min, args_max;
    const option_id *options; /* its own, ended by OPTION_END; NULL: none */
} command;

extern const command commands[];
extern const size_t command_count;

/* One run of the program. */
struct cli {
    const char *program; /* argv[0] */
    const command *command;
    settings settings;
    char **args; /* the command's arguments, options taken out */
    size_t arg_count;
    char **rest; /* what follows `--`, for a command that passes it on; ended by NULL */
    size_t rest_count;
    char **words; /* memory of args */
    pgq_names names;
    char *dsn; /* made from the --pg-... options or found, NULL otherwise */
};

/* Splits argv, collects and parses the settings of the command. Returns -1 to go on with
 * c->command, or the exit status after it has printed what there was to print. */
int cli_parse(cli *c, int argc, char **argv);

/* Whether a command takes an option. */
bool command_takes(const command *cmd, size_t option);

/* Whether some command's name begins with this word and a blank. */
bool command_is_group(const char *word);

/* The value of an option; NULL or 0 when there is none. */
const char *cli_text(const cli *c, option_id option);
int64_t cli_number(const cli *c, option_id option);
bool cli_flag(const cli *c, option_id option);
bool cli_given(const cli *c, option_id option); /* from anywhere but the defaults */

/* Prints an error on stderr and returns its exit status. */
int cli_report(const pgq_error *err);

/* Prints a usage error on stderr and returns EXIT_USAGE. */
int cli_usage(const command *cmd, const char *format, ...) BASE_PRINTF(2, 3);

/* Fills connect options and names from the settings; everything in them lives as long as `c`.
 * Falls back on the running server of ./.pgqueuer and says so on stderr. */
pgq_code cli_connect_options(cli *c, pgq_connect_options *options, pgq_error *err);

/* Fills c->names from the settings. */
const pgq_names *cli_names(cli *c);

/* Connects. */
pgq_code cli_open(cli *c, pgq_client **ret_client, pgq_error *err);

/* Adds to a connection error where the DSN came from, or how to give one. */
void cli_explain_connection(const cli *c, pgq_error *err);

/* Writes all bytes to a descriptor; false when it cannot. */
bool cli_write(int fd, const char *bytes, size_t len);

/* Reads a file, or stdin for NULL, of at most `limit` bytes. Errors: PGQ_E_NOT_FOUND, PGQ_E_IO,
 * PGQ_E_LIMIT, PGQ_E_NOMEM; what was read is in `content` also then. */
pgq_code cli_read_file(const char *path, size_t limit, buffer *content, pgq_error *err);

/* The words of this process as it was started, ended by NULL. Freed by freeing the first word, then
 * the array. NULL without memory. */
char **cli_own_arguments(void);

/* Asks on the terminal. Without a terminal, or for another answer than y or yes: false. */
bool cli_confirm(const char *question);

/* The parts of the help. */
void help_overview(void);
void help_command(const command *cmd);
void help_group(const char *word);

/* Commands, in the order of their table. */
int cmd_dev_start(cli *c);
int cmd_dev_stop(cli *c);
int cmd_dev_status(cli *c);
int cmd_dev_psql(cli *c);
int cmd_dev_reset(cli *c);
int cmd_demo(cli *c);
int cmd_bench_drain(cli *c);
int cmd_bench_latency(cli *c);
int cmd_bench_horizon(cli *c);
int cmd_bench_backlog(cli *c);
int cmd_bench_limits(cli *c);
int cmd_install(cli *c);
int cmd_upgrade(cli *c);
int cmd_uninstall(cli *c);
int cmd_verify(cli *c);
int cmd_durability(cli *c);
int cmd_autovac(cli *c);
int cmd_sql_install(cli *c);
int cmd_sql_upgrade(cli *c);
int cmd_sql_uninstall(cli *c);
int cmd_sql_durability(cli *c);
int cmd_sql_autovac(cli *c);
int cmd_queue(cli *c);
int cmd_import(cli *c);
int cmd_cancel(cli *c);
int cmd_requeue(cli *c);
int cmd_run(cli *c);
int cmd_help(cli *c);
int cmd_version(cli *c);
int cmd_config_show(cli *c);
int cmd_completion(cli *c);

#endif
