#include "pg/resolve.h"

#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

struct resolver {
    atomic_int holders; /* the thread and the owner */
    atomic_bool done;
    int fd;
    char *host;
    resolution answer; /* written by the thread before `done` */
};

bool resolve_is_numeric(const char *host)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;

    if (host == NULL || host[0] == '/' || host[0] == '@')
        return true;
    if (getaddrinfo(host, NULL, &hints, &found) != 0)
        return false;
    freeaddrinfo(found);
    return true;
}

static void let_go(resolver *r)
{
    if (atomic_fetch_sub(&r->holders, 1) > 1)
        return;
    (void)close(r->fd);
    free(r->host);
    free(r);
}

static void look_up(const char *host, resolution *answer)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int status = getaddrinfo(host, NULL, &hints, &found);

    answer->count = 0;
    if (status != 0) {
        (void)snprintf(answer->reason, sizeof(answer->reason), "%s", gai_strerror(status));
        return;
    }
    for (struct addrinfo *at = found; at != NULL && answer->count < RESOLVE_ADDRESSES_MAX;
         at = at->ai_next) {
        if (getnameinfo(at->ai_addr, at->ai_addrlen, answer->addresses[answer->count],
                        RESOLVE_ADDRESS_BYTES, NULL, 0, NI_NUMERICHOST) == 0)
            answer->count++;
    }
    freeaddrinfo(found);
    if (answer->count == 0)
        (void)snprintf(answer->reason, sizeof(answer->reason), "the name has no address");
}

static void *run(void *argument)
{
    resolver *r = argument;
    uint64_t one = 1;

    look_up(r->host, &r->answer);
    atomic_store(&r->done, true);
    if (write(r->fd, &one, sizeof(one)) < 0) {
        /* an eventfd that was never read cannot be full; the owner's deadline covers the rest */
    }
    let_go(r);
    return NULL;
}

pgq_code resolver_start(const char *host, resolver **ret_resolver)
{
    resolver *r = calloc(1, sizeof(*r));
    pthread_attr_t attributes;
    sigset_t all, old;
    pthread_t thread;
    int status;

    if (r == NULL)
        return PGQ_E_NOMEM;
    r->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->host = strdup(host);
    atomic_init(&r->holders, 1);
    if (r->fd < 0 || r->host == NULL || pthread_attr_init(&attributes) != 0) {
        if (r->fd >= 0)
            (void)close(r->fd);
        free(r->host);
        free(r);
        return PGQ_E_NOMEM;
    }
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    atomic_store(&r->holders, 2);
    /* signals belong to the host program's threads */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    status = pthread_create(&thread, &attributes, run, r);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    (void)pthread_attr_destroy(&attributes);
    if (status != 0) {
        atomic_store(&r->holders, 1);
        let_go(r);
        return PGQ_E_NOMEM;
    }
    *ret_resolver = r;
    return PGQ_OK;
}

int resolver_fd(const resolver *r)
{
    return r->fd;
}

bool resolver_answer(resolver *r, resolution *ret_resolution)
{
    if (!atomic_load(&r->done))
        return false;
    *ret_resolution = r->answer;
    return true;
}

resolver *resolver_free(resolver *r)
{
    if (r != NULL)
        let_go(r);
    return NULL;
}
