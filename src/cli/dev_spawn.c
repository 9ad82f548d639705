/* Child processes of the private server: started as the right user, waited for, and not left behind
 * when we are killed. */
#include "cli/dev.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOG_BYTES_MAX ((off_t)8 * 1024 * 1024)

enum { LOG_TAIL_BYTES = 2000, LOG_TAIL_LINES = 12 };

/* Gives root's rights up for good. */
static bool drop_rights(const dev *d)
{
    return !d->drop || (setgroups(0, NULL) == 0 && setresgid(d->gid, d->gid, d->gid) == 0 &&
                        setresuid(d->uid, d->uid, d->uid) == 0);
}

/* The server's log, for appending; begun anew when it has grown large. */
static int open_log(const dev *d)
{
    char path[DEV_PATH_BYTES];
    struct stat status;
    int fd;

    if (dev_path(path, d->root, "server.log", NULL) != PGQ_OK)
        return -1;
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0 && fstat(fd, &status) == 0 && status.st_size > LOG_BYTES_MAX && d->pid == 0 &&
        ftruncate(fd, 0) != 0)
        errno = 0; /* then it goes on growing */
    return fd;
}

/* In the child: descriptors, rights, environment, program. Does not return. */
static void become(const dev *d, char *const argv[], bool as_server, int in, int out)
{
    static char *const minimal[] = {"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC",
                                    NULL};
    char *environment[BASE_COUNT(minimal) + 1];
    char *library_path = getenv("LD_LIBRARY_PATH"), library_variable[DEV_PATH_BYTES];
    sigset_t none;

    memcpy(environment, minimal, sizeof(minimal));
    environment[BASE_COUNT(minimal)] = NULL;
    if (library_path != NULL &&
        snprintf(library_variable, sizeof(library_variable), "LD_LIBRARY_PATH=%s", library_path) <
            (int)sizeof(library_variable))
        environment[BASE_COUNT(minimal) - 1] = library_variable;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
        dup2(out, STDERR_FILENO) < 0 || (as_server && !drop_rights(d)) || chdir("/") != 0)
        _exit(127);
    (void)umask(077);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of user clears it: after drop_rights */
    (void)execve(argv[0], argv, environment);
    (void)fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static int wait_for(pid_t child)
{
    int status;

    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR)
            return 127;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* A descriptor from which the child reads `input`. It fits into the pipe. */
static int open_input(const char *input)
{
    int ends[2];

    if (input == NULL)
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    if (write(ends[1], input, strlen(input)) < 0)
        errno = 0; /* the child will miss it and say so */
    (void)close(ends[1]);
    return ends[0];
}

static void read_output(int fd, char *output, size_t size)
{
    size_t length = 0;
    ssize_t got;

    while (length + 1 < size) {
        got = read(fd, output + length, size - 1 - length);
        if (got <= 0 && !(got < 0 && errno == EINTR))
            break;
        if (got > 0)
            length += (size_t)got;
    }
    output[length] = '\0';
}

int dev_spawn(const dev *d, char *const argv[], bool as_server, const char *input, char *output,
              size_t output_size)
{
    int ends[2] = {-1, -1}, in = open_input(input), out = -1, status = 127;
    pid_t child;

    if (output != NULL)
        out = pipe2(ends, O_CLOEXEC) == 0 ? ends[1] : -1;
    else
        out = open_log(d);
    child = in >= 0 && out >= 0 ? fork() : -1;
    if (child == 0)
        become(d, argv, as_server, in, out);
    if (in >= 0)
        (void)close(in);
    if (out >= 0)
        (void)close(out);
    if (child > 0 && output != NULL)
        read_output(ends[0], output, output_size);
    if (ends[0] >= 0)
        (void)close(ends[0]);
    if (child > 0)
        status = wait_for(child);
    return status;
}

bool dev_as_server(const dev *d, bool (*function)(const char *path), const char *path)
{
    pid_t child;

    if (!d->drop)
        return function(path);
    child = fork();
    if (child == 0)
        _exit(drop_rights(d) && function(path) ? 0 : 1);
    return child > 0 && wait_for(child) == 0;
}

void dev_show_log(const dev *d)
{
    char path[DEV_PATH_BYTES], text[LOG_TAIL_BYTES + 1];
    ssize_t length;
    int fd, lines = 0;
    char *begin;

    if (dev_path(path, d->root, "server.log", NULL) != PGQ_OK)
        return;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    if (lseek(fd, -(off_t)LOG_TAIL_BYTES, SEEK_END) < 0)
        (void)lseek(fd, 0, SEEK_SET);
    length = read(fd, text, LOG_TAIL_BYTES);
    (void)close(fd);
    if (length <= 0)
        return;
    text[length] = '\0';
    for (begin = text + length - 1; begin > text && lines < LOG_TAIL_LINES; begin--)
        lines += begin[-1] == '\n' ? 1 : 0;
    (void)fprintf(stderr, "The end of %s:\n", path);
    for (char *line = strtok(begin, "\n"); line != NULL; line = strtok(NULL, "\n"))
        (void)fprintf(stderr, "  | %s\n", line);
}
