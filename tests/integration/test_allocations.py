"""What a running worker allocates: memory is made when it starts and for what comes in one piece,
not for jobs."""

import pytest

from lib import program

FEW, MANY = 2_000, 22_000
BATCH = 500

pytestmark = pytest.mark.skipif(
    program.sanitizer() != "none", reason="a sanitizer has an allocator of its own"
)


def allocations(queue_db, drain, handlers, tmp_path, jobs, *options):
    """The calls that a drain makes: the library's, libpq's, everybody else's."""
    queue_db.execute(
        "INSERT INTO pgqueuer (priority, status, entrypoint)"
        " SELECT 0, 'queued', 'noop' FROM generate_series(1, %s)", [jobs])
    counted = tmp_path / f"counted-{jobs}"
    drain(queue_db, "--batch-size", str(BATCH), "--threads", "2", *options,
          factory=f"{handlers['noop']}:factory",
          env={"LD_PRELOAD": handlers["count_allocations"], "COUNT_ALLOCATIONS": counted})
    assert queue_db.job_count() == 0
    calls = list(map(int, counted.read_text().split()))
    assert min(calls) > 50, "the counting did not work"
    return calls


@pytest.mark.parametrize("options", [("--lane", "row"),
                                     ("--lane", "lease", "--log-policy", "terminal"),
                                     ("--lane", "lease")], ids=" ".join)
def test_no_memory_is_allocated_for_a_job(queue_db, drain, handlers, tmp_path, options):
    few = allocations(queue_db, drain, handlers, tmp_path, FEW, *options)
    many = allocations(queue_db, drain, handlers, tmp_path, MANY, *options)
    ours, libpq, others = ((b - a) / (MANY - FEW) for a, b in zip(few, many))
    print(f"allocations per job: {ours:.4f}, libpq {libpq:.4f}, others {others:.4f}")
    assert ours < 0.005, "not even one a batch"
    assert libpq < 0.2, "it keeps rows in blocks of 2 KiB"
    assert others < 0.1, "a notification a batch is JSON to parse"
