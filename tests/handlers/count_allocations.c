/* For LD_PRELOAD: counts calls of malloc, calloc and realloc by who makes them: libpgqueuer, libpq,
 * anybody else. At the end of the process it writes the three numbers to $COUNT_ALLOCATIONS. */
#include <link.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);

/* A library, and where its code is: set before main. The last one stands for all others. */
static struct {
    const char *name;
    uintptr_t begin, end;
    atomic_ulong calls;
} callers[] = {{.name = "libpgqueuer.so"}, {.name = "libpq.so"}, {.name = NULL}};

enum { NAMED = sizeof(callers) / sizeof(callers[0]) - 1 };

static int find(struct dl_phdr_info *info, size_t size, void *user)
{
    (void)size;
    (void)user;
    for (int who = 0; who < NAMED; who++) {
        if (strstr(info->dlpi_name, callers[who].name) == NULL)
            continue;
        callers[who].begin = info->dlpi_addr;
        for (int i = 0; i < info->dlpi_phnum; i++) {
            uintptr_t end =
                info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;

            if (info->dlpi_phdr[i].p_type == PT_LOAD && end > callers[who].end)
                callers[who].end = end;
        }
    }
    return 0;
}

__attribute__((constructor)) static void begin(void)
{
    (void)dl_iterate_phdr(find, NULL);
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("COUNT_ALLOCATIONS");
    FILE *file = path != NULL ? fopen(path, "w") : NULL;

    if (file == NULL)
        return;
    for (int who = 0; who <= NAMED; who++)
        (void)fprintf(file, "%lu ", atomic_load(&callers[who].calls));
    (void)fclose(file);
}

static void count(const void *caller)
{
    uintptr_t at = (uintptr_t)caller;
    int who = 0;

    while (who < NAMED && (at < callers[who].begin || at >= callers[who].end))
        who++;
    atomic_fetch_add(&callers[who].calls, 1);
}

void *malloc(size_t size)
{
    count(__builtin_return_address(0));
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    count(__builtin_return_address(0));
    return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size)
{
    count(__builtin_return_address(0));
    return __libc_realloc(old, size);
}
