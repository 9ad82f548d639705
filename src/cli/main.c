/* The pgqueuer program: finds the command, runs it, and turns what happened into an exit status. */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A program that was started with a closed 0, 1 or 2 would write into whatever it opens first. */
static void fill_standard_descriptors(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO)
        (void)close(fd);
}

int main(int argc, char **argv)
{
    cli c = {.names = PGQ_NAMES_INIT};
    int status;

    fill_standard_descriptors();
    if (argc < 1)
        return EXIT_USAGE;
    c.program = argv[0];
    status = cli_parse(&c, argc, argv);
    if (status < 0)
        status = c.command->run(&c);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == EXIT_DONE) {
        (void)fprintf(stderr, "pgqueuer: error: cannot write to standard output: %s\n",
                      strerror(errno));
        status = EXIT_FAILED;
    }
    settings_release(&c.settings);
    free(c.words);
    free(c.dsn);
    return status;
}
