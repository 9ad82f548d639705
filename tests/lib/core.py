"""The core list: the tests that show that a worker keeps its promises, on every way that its jobs can
go. Each runs once a way instead of once; tests/conftest.py sees to that. All of it is bounded to
four minutes on two cores in `make test`; what is in LONG runs every way in `make soak` only.

A test that names a lane itself keeps it: the options of the command line win over the way's."""

import os

from lib import program
from lib.pooler import Pooler

# A sanitizer makes quick runs slow, and leases too short to do anything in.
SLOW = 1 if program.sanitizer() == "none" else 4
# Runs of the journal's handlers that are slow, so many in so many: an entrypoint that is on the
# lease lane leaves it then, and comes back (src/worker/engine_side.c).
UNSTEADY = {"PGQUEUER_LANE": "auto", "PGQUEUER_LEASE": str(0.05 * SLOW),
            "JOURNAL_UNSTEADY": f"6:80:{20 * SLOW}"}
# Behind a pooler LISTEN is heard of by nobody. The health check finds that out, and the worker polls.
DEAF = {"PGQUEUER_HEALTH_CHECK_INTERVAL": "0.3", "PGQUEUER_HEALTH_CHECK_TIMEOUT": "0.3"}

WAYS = {
    "row": {"PGQUEUER_LANE": "row"},
    "lease": {"PGQUEUER_LANE": "lease"},
    "switching": UNSTEADY,
    "pooled": DEAF,
}
DIRECT = ("row", "lease", "switching")  # for what only a listener learns: cancellations
ALL = (*DIRECT, "pooled")

CORE = {
    # lost and found
    "test_the_jobs_of_a_killed_worker_run_again": ALL,
    "test_killed_workers_in_a_row_lose_nothing": ALL,
    "test_ended_backends_cost_the_worker_only_its_connections": DIRECT,
    "test_a_mixed_fleet_runs_each_job_once": ALL,
    "test_python_takes_over_the_job_of_a_killed_c_worker": ALL,
    "test_a_live_job_is_never_taken_over": ALL,
    # ends, retries, timeouts
    "test_log_rows_are_those_of_python": ALL,
    "test_the_retry_executor_puts_the_job_back_with_growing_delays_and_then_fails_it": ALL,
    "test_the_backoff_executor_retries_in_the_process_and_keeps_the_job": ALL,
    "test_an_error_text_of_any_kind_is_recorded_and_harms_none_of_its_batch": ALL,
    "test_a_handler_that_will_not_end_loses_its_job_and_its_seat_and_keeps_a_thread": ALL,
    # cancellation
    "test_the_handler_of_a_running_job_is_told": DIRECT,
    "test_a_cancelled_job_ends_as_canceled_whatever_its_handler_says": DIRECT,
    # limits, order, time
    "test_two_workers_keep_a_limit_and_a_serialized_entrypoint_and_use_them": ALL,
    "test_a_worker_never_holds_more_than_max_concurrent_tasks": ALL,
    "test_no_more_jobs_start_than_the_rate_allows": ALL,
    "test_a_deferred_job_starts_at_its_time_and_not_at_the_poll": ALL,
    "test_priority_goes_before_age_across_entrypoints": ALL,
    # books, drains
    "test_c_workers_fold_exactly_beside_a_reader_without_the_lock": ALL,
    "test_drain_waits_for_deferred_jobs_and_for_its_own_retries": ALL,
}
LONG = {
    "test_a_mixed_fleet_keeps_limits_and_order_though_workers_are_killed": ALL,
    "test_a_server_that_is_away_for_a_while_costs_no_job_and_no_outcome": ALL,
    "test_a_server_restart_in_the_middle_of_work": ALL,
}


def ways_of(test):
    """The ways on which a test runs; none if it is not on the list, or not today."""
    return CORE.get(test) or (LONG.get(test, ()) if os.environ.get("PGQUEUER_SOAK") else ())


class Way:
    """How the workers of a test go: their environment, and what they connect to."""

    def __init__(self, name, processes):
        self.name = name
        self.environment = WAYS.get(name, {})
        self._processes = processes
        self._poolers = {}

    def dsn(self, database):
        """Of a database of a cluster; a text is taken as it is."""
        if self.name != "pooled" or isinstance(database, str):
            return getattr(database, "dsn", database)
        cluster = database.cluster
        if cluster not in self._poolers:  # sessions go from hand to hand
            self._poolers[cluster] = Pooler(cluster, self._processes, pool_size=20, round_robin=True)
        return self._poolers[cluster].dsn(database)
