/* What every command needs: its values, reporting, reading and writing. */
#include "cli/cli.h"
#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *cli_text(const cli *c, option_id option)
{
    const char *text = c->settings.values[option].text;

    return base_given(text) ? text : NULL;
}

int64_t cli_number(const cli *c, option_id option)
{
    return c->settings.values[option].number;
}

bool cli_flag(const cli *c, option_id option)
{
    return c->settings.values[option].number != 0;
}

bool cli_given(const cli *c, option_id option)
{
    return c->settings.values[option].origin > SETTING_DEFAULT;
}

/* Prints a text that may hold whatever somebody typed or a file contained: nothing in it may steer
 * the terminal or look like another line. */
static void print_clean(const char *before, const char *text)
{
    buffer clean = BUFFER_INIT;

    buffer_add_utf8(&clean, text, strlen(text));
    for (size_t i = 0; !clean.broken && i < clean.len; i++) {
        unsigned char c = (unsigned char)clean.data[i];

        if (c < ' ' || c == 0x7F)
            clean.data[i] = '?';
    }
    (void)fprintf(stderr, "%s%s\n", before, clean.broken || clean.len == 0 ? "" : clean.data);
    buffer_release(&clean);
}

int cli_report(const pgq_error *err)
{
    (void)fflush(stdout);
    print_clean("pgqueuer: error: ",
                err->message[0] != '\0' ? err->message : pgq_strerror(err->code));
    if (err->where[0] != '\0')
        print_clean("  where: ", err->where);
    if (err->hint[0] != '\0')
        print_clean("  hint: ", err->hint);
    return pgq_code_exit_status(err->code);
}

int cli_usage(const command *cmd, const char *format, ...)
{
    char message[PGQ_MESSAGE_BYTES];
    va_list args;

    (void)fflush(stdout);
    va_start(args, format);
    (void)vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    print_clean("pgqueuer: error: ", message);
    if (cmd != NULL)
        (void)fprintf(stderr, "  usage: pgqueuer %s %s\n  hint: 'pgqueuer help %s' says more\n",
                      cmd->name, cmd->synopsis, cmd->name);
    else
        (void)fputs("  hint: 'pgqueuer help' lists the commands\n", stderr);
    return EXIT_USAGE;
}

bool cli_write(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t done = write(fd, bytes, len);

        if (done < 0 && errno != EINTR)
            return false;
        if (done > 0) {
            bytes += done;
            len -= (size_t)done;
        }
    }
    return true;
}

static pgq_code read_all(int fd, size_t limit, buffer *content, pgq_error *err)
{
    enum { CHUNK_BYTES = 65536 };

    buffer_add(content, "", 0);
    for (;;) {
        char *at = buffer_reserve(content, CHUNK_BYTES);
        ssize_t done;

        if (at == NULL)
            return error_nomem(err);
        done = read(fd, at, CHUNK_BYTES);
        if (done == 0)
            return PGQ_OK;
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return error_set(err, PGQ_E_IO, "cannot read: %s", strerror(errno));
        content->len += (size_t)done;
        content->data[content->len] = '\0';
        if (content->len > limit)
            return error_set(err, PGQ_E_LIMIT, "the input is larger than %zu bytes", limit);
    }
}

pgq_code cli_read_file(const char *path, size_t limit, buffer *content, pgq_error *err)
{
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    pgq_code code;

    if (fd < 0)
        code = error_set(err, errno == ENOENT ? PGQ_E_NOT_FOUND : PGQ_E_IO, "cannot open: %s",
                         strerror(errno));
    else
        code = read_all(fd, limit, content, err);
    if (code != PGQ_OK)
        error_where(err, "%s", path != NULL ? path : "standard input");
    if (fd > STDIN_FILENO)
        (void)close(fd);
    return code;
}

bool cli_confirm(const char *question)
{
    char answer[8] = "";

    if (!isatty(STDIN_FILENO))
        return false;
    (void)fprintf(stderr, "%s [y/N] ", question);
    if (fgets(answer, sizeof(answer), stdin) == NULL)
        return false;
    answer[strcspn(answer, "\n")] = '\0';
    return base_streq(answer, "y") || base_streq(answer, "Y") || base_streq(answer, "yes");
}

char **cli_own_arguments(void)
{
    enum { ARGUMENTS_MAX = 64 * 1024 };

    buffer content = BUFFER_INIT;
    pgq_error err = PGQ_ERROR_INIT;
    char **words;
    size_t count = 0, at = 0;

    if (cli_read_file("/proc/self/cmdline", ARGUMENTS_MAX, &content, &err) != PGQ_OK)
        return NULL;
    for (size_t i = 0; i < content.len; i++)
        count += content.data[i] == '\0';
    words = calloc(count + 1, sizeof(*words));
    for (size_t i = 0; words != NULL && i < count; i++) {
        words[i] = content.data + at;
        at += strlen(words[i]) + 1;
    }
    if (words == NULL)
        buffer_release(&content);
    return words;
}
