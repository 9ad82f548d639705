#include "unit.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "queue/ledger.h"

/* A ledger in memory as a parent and its child share it. */
static int ledger_setup(void **state)
{
    void *memory =
        mmap(NULL, pgq_ledger_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return -1;
    memset(memory, 0xA5, pgq_ledger_size()); /* of somebody before */
    *state = pgq_ledger_init(memory);
    return 0;
}

static int ledger_teardown(void **state)
{
    return munmap(*state, pgq_ledger_size());
}

static void a_new_ledger_says_nothing(void **state)
{
    pgq_ledger *ledger = *state;
    pgq_ledger_view view;
    int64_t id = 0;

    pgq_ledger_look(ledger, &view);
    assert_string_equal(view.worker_id, "");
    assert_false(view.listening);
    assert_int_equal(view.alive_us, 0);
    assert_int_equal(pgq_ledger_running(ledger, &id, 1), 0);
}

static void a_ledger_shows_what_the_worker_says_of_itself(void **state)
{
    static const char id[] = "01234567-89ab-cdef-0123-456789abcdef";
    pgq_ledger *ledger = *state;
    pgq_ledger_view view;

    ledger_name(ledger, id);
    ledger_listening(ledger, true);
    ledger_alive(ledger, 77);
    pgq_ledger_look(ledger, &view);
    assert_string_equal(view.worker_id, id);
    assert_true(view.listening);
    assert_int_equal(view.alive_us, 77);
    ledger_listening(ledger, false);
    pgq_ledger_look(ledger, &view);
    assert_false(view.listening);
    assert_ptr_equal(pgq_ledger_init(ledger), ledger);
    pgq_ledger_look(ledger, &view);
    assert_string_equal(view.worker_id, "");
}

static void jobs_are_there_from_their_begin_to_their_end(void **state)
{
    pgq_ledger *ledger = *state;
    int64_t ids[3] = {0, 0, 0};

    ledger_begin(ledger, 5, 50);
    ledger_begin(ledger, 0, 10);
    ledger_begin(ledger, LEDGER_SLOTS - 1, INT64_MAX);
    assert_int_equal(pgq_ledger_running(ledger, ids, 3), 3);
    assert_int_equal(ids[0], 10);
    assert_int_equal(ids[1], 50);
    assert_true(ids[2] == INT64_MAX);
    ledger_end(ledger, 5, 50);
    ids[2] = 0;
    assert_int_equal(pgq_ledger_running(ledger, ids, 3), 2);
    assert_true(ids[1] == INT64_MAX);
}

static void all_that_run_are_counted_and_no_more_written_than_there_is_room(void **state)
{
    pgq_ledger *ledger = *state;
    int64_t ids[2] = {-1, -1};

    for (size_t slot = 0; slot < LEDGER_SLOTS; slot++)
        ledger_begin(ledger, slot, (int64_t)slot + 1);
    assert_int_equal(pgq_ledger_running(ledger, ids, 1), LEDGER_SLOTS);
    assert_int_equal(ids[0], 1);
    assert_int_equal(ids[1], -1);
    assert_int_equal(pgq_ledger_running(ledger, NULL, 0), LEDGER_SLOTS);
}

/* A handler that was given up ends when its place has another job already. */
static void a_late_end_leaves_the_next_job_of_the_slot(void **state)
{
    pgq_ledger *ledger = *state;
    int64_t id = 0;

    ledger_begin(ledger, 3, 30);
    ledger_begin(ledger, 3, 31);
    ledger_end(ledger, 3, 30);
    assert_int_equal(pgq_ledger_running(ledger, &id, 1), 1);
    assert_int_equal(id, 31);
}

static void no_ledger_and_a_slot_beyond_it_are_passed_over(void **state)
{
    pgq_ledger *ledger = *state;

    ledger_name(NULL, "x");
    ledger_listening(NULL, true);
    ledger_alive(NULL, 1);
    ledger_begin(NULL, 0, 1);
    ledger_end(NULL, 0, 1);
    ledger_begin(ledger, LEDGER_SLOTS, 1);
    ledger_end(ledger, LEDGER_SLOTS, 1);
    assert_int_equal(pgq_ledger_running(ledger, NULL, 0), 0);
}

enum { THREADS = 4, ROUNDS = 20000 };

static void *begin_and_end(void *argument)
{
    pgq_ledger *ledger = argument;
    static _Atomic size_t next;
    size_t own = atomic_fetch_add(&next, 1) * 7;

    for (int64_t round = 1; round <= ROUNDS; round++) {
        ledger_begin(ledger, own, round);
        ledger_end(ledger, own, round);
    }
    ledger_begin(ledger, own, (int64_t)own + 1);
    return NULL;
}

/* The child dies in the middle of it, as a worker does. */
static void a_parent_reads_what_threads_of_a_dead_child_ran(void **state)
{
    pgq_ledger *ledger = *state;
    int64_t ids[THREADS + 1];
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        pthread_t threads[THREADS];

        for (int i = 0; i < THREADS; i++) {
            if (pthread_create(&threads[i], NULL, begin_and_end, ledger) != 0)
                _exit(1);
        }
        for (int i = 0; i < THREADS; i++)
            (void)pthread_join(threads[i], NULL);
        (void)raise(SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(pgq_ledger_running(ledger, ids, THREADS + 1), THREADS);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(ids[i], i * 7 + 1);
}

#define LEDGER_TEST(name) cmocka_unit_test_setup_teardown(name, ledger_setup, ledger_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LEDGER_TEST(a_new_ledger_says_nothing),
        LEDGER_TEST(a_ledger_shows_what_the_worker_says_of_itself),
        LEDGER_TEST(jobs_are_there_from_their_begin_to_their_end),
        LEDGER_TEST(all_that_run_are_counted_and_no_more_written_than_there_is_room),
        LEDGER_TEST(a_late_end_leaves_the_next_job_of_the_slot),
        LEDGER_TEST(no_ledger_and_a_slot_beyond_it_are_passed_over),
        LEDGER_TEST(a_parent_reads_what_threads_of_a_dead_child_ran),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
