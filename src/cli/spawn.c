#include "cli/spawn.h"
#include "base/base.h"

#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <unistd.h>

static bool is_left_out(const char *const *without, const char *entry)
{
    for (; without != NULL && *without != NULL; without++) {
        if (strncmp(entry, *without, strlen(*without)) == 0)
            return true;
    }
    return false;
}

/* The caller frees the array. NULL without memory. */
static char **make_environment(const spawn_request *request)
{
    size_t count = 0, kept = 0;
    char **copy;

    while (environ[count] != NULL)
        count++;
    copy = calloc(count + 2, sizeof(*copy));
    if (copy == NULL)
        return NULL;
    copy[kept++] = request->word; /* the first of a name counts */
    for (size_t i = 0; i < count; i++) {
        if (!is_left_out(request->without, environ[i]))
            copy[kept++] = environ[i];
    }
    return copy;
}

static int add_files(posix_spawn_file_actions_t *files, const spawn_request *request)
{
    int status = 0;

    /* a copy onto itself clears close-on-exec */
    if (request->kept >= 0)
        status = posix_spawn_file_actions_adddup2(files, request->kept, request->kept);
    if (status == 0 && request->in >= 0)
        status = posix_spawn_file_actions_adddup2(files, request->in, STDIN_FILENO);
    if (status == 0 && request->out >= 0)
        status = posix_spawn_file_actions_adddup2(files, request->out, STDOUT_FILENO);
    return status;
}

static void set_attributes(posix_spawnattr_t *attributes, const spawn_request *request)
{
    sigset_t none, all;

    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    (void)posix_spawnattr_setsigmask(attributes,
                                     request->blocked != NULL ? request->blocked : &none);
    (void)posix_spawnattr_setsigdefault(attributes, &all);
    (void)posix_spawnattr_setpgroup(attributes, 0);
    (void)posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                   POSIX_SPAWN_SETPGROUP);
}

int spawn_child(const spawn_request *request, pid_t *ret_pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    char **environment = make_environment(request);
    int status;

    *ret_pid = 0;
    if (environment == NULL)
        return ENOMEM;
    status = posix_spawn_file_actions_init(&files);
    if (status != 0)
        goto free_environment;
    status = posix_spawnattr_init(&attributes);
    if (status != 0)
        goto destroy_files;
    set_attributes(&attributes, request);
    status = add_files(&files, request);
    if (status == 0)
        status =
            posix_spawn(ret_pid, request->path, &files, &attributes, request->argv, environment);
    if (status != 0)
        *ret_pid = 0;
    (void)posix_spawnattr_destroy(&attributes);
destroy_files:
    (void)posix_spawn_file_actions_destroy(&files);
free_environment:
    free(environment);
    return status;
}
