#include "faults.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>

#include <libpq-fe.h>
#include <uv.h>

/* X(return type, name, parameters, arguments, what a failed call returns) */
#define WRAPPED(X)                                                                                 \
    X(int, eventfd, (unsigned value, int flags), (value, flags), fail_with(EMFILE))                \
    X(ssize_t, getrandom, (void *bytes, size_t len, unsigned flags), (bytes, len, flags),          \
      fail_with(ENOSYS))                                                                           \
    X(int, poll, (struct pollfd * fds, nfds_t count, int ms), (fds, count, ms), fail_with(ENOMEM)) \
    X(int, getaddrinfo,                                                                            \
      (const char *node, const char *service, const struct addrinfo *hints,                        \
       struct addrinfo **found),                                                                   \
      (node, service, hints, found), EAI_MEMORY)                                                   \
    X(int, getnameinfo,                                                                            \
      (const struct sockaddr *address, socklen_t len, char *host, socklen_t host_len,              \
       char *service, socklen_t service_len, int flags),                                           \
      (address, len, host, host_len, service, service_len, flags), EAI_MEMORY)                     \
    X(int, pthread_attr_init, (pthread_attr_t * attributes), (attributes), ENOMEM)                 \
    X(int, pthread_create,                                                                         \
      (pthread_t * thread, const pthread_attr_t *attributes, void *(*run)(void *),                 \
       void *argument),                                                                            \
      (thread, attributes, run, argument), EAGAIN)                                                 \
    X(int, uv_loop_init, (uv_loop_t * loop), (loop), UV_ENOMEM)                                    \
    X(int, uv_async_init, (uv_loop_t * loop, uv_async_t * async, uv_async_cb call),                \
      (loop, async, call), UV_EMFILE)                                                              \
    X(int, uv_poll_init, (uv_loop_t * loop, uv_poll_t * watch, int fd), (loop, watch, fd),         \
      UV_ENOMEM)                                                                                   \
    X(int, uv_poll_start, (uv_poll_t * watch, int events, uv_poll_cb call), (watch, events, call), \
      UV_EBADF)                                                                                    \
    X(PQconninfoOption *, PQconninfoParse, (const char *dsn, char **reason), (dsn, reason), NULL)  \
    X(PQconninfoOption *, PQconndefaults, (void), (), NULL)                                        \
    X(PGconn *, PQconnectStartParams,                                                              \
      (const char *const *keywords, const char *const *values, int expand),                        \
      (keywords, values, expand), NULL)                                                            \
    X(PostgresPollingStatusType, PQconnectPoll, (PGconn * conn), (conn), PGRES_POLLING_FAILED)     \
    X(int, PQsetnonblocking, (PGconn * conn, int on), (conn, on), -1)                              \
    X(int, PQenterPipelineMode, (PGconn * conn), (conn), 0)                                        \
    X(int, PQsendPrepare,                                                                          \
      (PGconn * conn, const char *name, const char *text, int count, const Oid *types),            \
      (conn, name, text, count, types), 0)                                                         \
    X(int, PQsendQueryPrepared,                                                                    \
      (PGconn * conn, const char *name, int count, const char *const *values, const int *lengths,  \
       const int *formats, int format),                                                            \
      (conn, name, count, values, lengths, formats, format), 0)                                    \
    X(int, PQsendQueryParams,                                                                      \
      (PGconn * conn, const char *text, int count, const Oid *types, const char *const *values,    \
       const int *lengths, const int *formats, int format),                                        \
      (conn, text, count, types, values, lengths, formats, format), 0)                             \
    X(int, PQpipelineSync, (PGconn * conn), (conn), 0)                                             \
    X(int, PQflush, (PGconn * conn), (conn), -1)                                                   \
    X(int, PQconsumeInput, (PGconn * conn), (conn), 0)                                             \
    X(PGresult *, PQgetResult, (PGconn * conn), (conn), NULL)                                      \
    X(PGresult *, PQexecParams,                                                                    \
      (PGconn * conn, const char *text, int count, const Oid *types, const char *const *values,    \
       const int *lengths, const int *formats, int format),                                        \
      (conn, text, count, types, values, lengths, formats, format), NULL)

/* These have wrappers of their own, which also count what is not freed. */
#define ALLOCATIONS(X) X(malloc) X(calloc) X(realloc) X(strdup)

typedef enum function {
#define X(name) CALL_##name,
    ALLOCATIONS(X)
#undef X
#define X(type, name, parameters, arguments, failure) CALL_##name,
        WRAPPED(X)
#undef X
            FUNCTION_COUNT
} function;

static const char *const function_names[FUNCTION_COUNT] = {
#define X(name) #name,
    ALLOCATIONS(X)
#undef X
#define X(type, name, parameters, arguments, failure) #name,
        WRAPPED(X)
#undef X
};

enum { SITES_MAX = 1024, REMEMBERED_MAX = 1 << 16 };

typedef struct site {
    const void *address;
    function function;
    long calls, faults;
    bool planned; /* seen by a counting run, so that the sweep could choose it */
} site;

/* A lock for all of it: the calls of the worker's threads are few. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static site sites[SITES_MAX];
static size_t site_count;
static int remembered[REMEMBERED_MAX];
static atomic_bool armed;
static fault_mode mode;
static long target, call_count, hits;
static int64_t outage_us, outage_end_us;
static atomic_long allocations;

static int64_t now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static size_t find_site(const void *address, function which)
{
    for (size_t i = 0; i < site_count; i++) {
        if (sites[i].address == address && sites[i].function == which)
            return i;
    }
    if (site_count == SITES_MAX)
        abort();
    sites[site_count] = (site){.address = address, .function = which};
    return site_count++;
}

static bool decide(void)
{
    if (mode == FAULT_COUNT || call_count < target)
        return false;
    if (mode == FAULT_ONCE)
        return call_count == target;
    if (mode == FAULT_OUTAGE) {
        if (call_count == target)
            outage_end_us = now_us() + outage_us;
        return now_us() < outage_end_us;
    }
    return true;
}

static bool fails(function which, const void *address)
{
    size_t place;
    bool fault;

    if (!atomic_load(&armed))
        return false;
    (void)pthread_mutex_lock(&lock);
    place = find_site(address, which);
    sites[place].calls++;
    sites[place].planned = sites[place].planned || mode == FAULT_COUNT;
    if (++call_count < REMEMBERED_MAX)
        remembered[call_count] = (int)place;
    fault = decide();
    if (fault) {
        hits++;
        sites[place].faults++;
    }
    (void)pthread_mutex_unlock(&lock);
    return fault;
}

void fault_arm(fault_mode new_mode, long n, int64_t new_outage_us)
{
    (void)pthread_mutex_lock(&lock);
    mode = new_mode;
    target = n;
    outage_us = new_outage_us;
    outage_end_us = INT64_MAX;
    call_count = hits = 0;
    atomic_store(&armed, true);
    (void)pthread_mutex_unlock(&lock);
}

void fault_disarm(void)
{
    (void)pthread_mutex_lock(&lock);
    atomic_store(&armed, false);
    (void)pthread_mutex_unlock(&lock);
}

static long read_counter(const long *counter)
{
    long now;

    (void)pthread_mutex_lock(&lock);
    now = *counter;
    (void)pthread_mutex_unlock(&lock);
    return now;
}

long fault_calls(void)
{
    return read_counter(&call_count);
}

long fault_hits(void)
{
    return read_counter(&hits);
}

int fault_site_of(long n)
{
    return n > 0 && n < REMEMBERED_MAX && n <= call_count ? remembered[n] : -1;
}

const char *fault_name_of(long n)
{
    int place = fault_site_of(n);

    return place >= 0 ? function_names[sites[place].function] : "no call";
}

long fault_allocations(void)
{
    return atomic_load(&allocations);
}

size_t fault_report(fault_totals *rows, size_t max)
{
    for (size_t i = 0; i < FUNCTION_COUNT && i < max; i++) {
        rows[i] = (fault_totals){.function = function_names[i]};
        for (size_t k = 0; k < site_count; k++) {
            if (sites[k].function != (function)i)
                continue;
            rows[i].calls += sites[k].calls;
            rows[i].faults += sites[k].faults;
            rows[i].sites += sites[k].planned || sites[k].faults > 0;
            rows[i].faulted_sites += sites[k].faults > 0;
        }
    }
    return FUNCTION_COUNT;
}

/* ---- the wrappers ---- */

static int fail_with(int code)
{
    errno = code;
    return -1;
}

#define X(type, name, parameters, arguments, failure)        \
    type __real_##name parameters;                           \
    type __wrap_##name parameters;                           \
    type __wrap_##name parameters                            \
    {                                                        \
        if (fails(CALL_##name, __builtin_return_address(0))) \
            return failure;                                  \
        return __real_##name arguments;                      \
    }
WRAPPED(X)
#undef X

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t elements, size_t size);
void *__wrap_calloc(size_t elements, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
void __real_free(void *pointer);
void __wrap_free(void *pointer);

static bool no_memory(function which, const void *address)
{
    if (!fails(which, address))
        return false;
    errno = ENOMEM;
    return true;
}

static void *counted(void *pointer)
{
    if (pointer != NULL)
        atomic_fetch_add(&allocations, 1);
    return pointer;
}

void *__wrap_malloc(size_t size)
{
    if (no_memory(CALL_malloc, __builtin_return_address(0)))
        return NULL;
    return counted(__real_malloc(size));
}

void *__wrap_calloc(size_t elements, size_t size)
{
    if (no_memory(CALL_calloc, __builtin_return_address(0)))
        return NULL;
    return counted(__real_calloc(elements, size));
}

void *__wrap_realloc(void *old, size_t size)
{
    if (no_memory(CALL_realloc, __builtin_return_address(0)))
        return NULL;
    return old == NULL ? counted(__real_realloc(NULL, size)) : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text)
{
    if (no_memory(CALL_strdup, __builtin_return_address(0)))
        return NULL;
    return counted(__real_strdup(text));
}

void __wrap_free(void *pointer)
{
    if (pointer != NULL)
        atomic_fetch_sub(&allocations, 1);
    __real_free(pointer);
}
