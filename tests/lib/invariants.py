"""What must hold after every run, whatever failed in it."""

TERMINAL = ("successful", "exception", "canceled", "deleted", "failed")


def check_kept(database, acknowledged):
    """Each acknowledged job is in the queue or has exactly one terminal log row, and nothing is
    half there: a job in the queue has its `queued` log row."""
    acknowledged = set(acknowledged)
    assert acknowledged, "nothing was acknowledged: the test shows nothing"
    queued = {job_id for (job_id,) in database.rows("SELECT id FROM pgqueuer")}
    ended = dict(
        database.rows(
            "SELECT job_id, count(*) FROM pgqueuer_log WHERE status::text = ANY (%s) GROUP BY job_id",
            [list(TERMINAL)],
        )
    )
    first = dict(
        database.rows(
            "SELECT job_id, count(*) FROM pgqueuer_log"
            " WHERE status = 'queued' AND traceback IS NULL GROUP BY job_id"
        )
    )
    lost = acknowledged - queued - ended.keys()
    assert not lost, f"{len(lost)} acknowledged jobs are gone, such as {sorted(lost)[:5]}"
    twice = {job_id: count for job_id, count in ended.items() if count != 1}
    assert not twice, f"jobs with several terminal log rows: {twice}"
    held = {job_id for (job_id,) in database.rows("SELECT id FROM pgqueuer WHERE status = 'failed'")}
    both = (queued - held) & ended.keys()
    assert not both, f"jobs that are queued and ended: {sorted(both)[:5]}"
    without = (queued | ended.keys()) - first.keys()
    assert not without, f"jobs without a `queued` log row: {sorted(without)[:5]}"
    invented = (queued | ended.keys()) - acknowledged
    return invented


def check_single(journal, jobs, extra=0):
    """Every job ran; no two runs of one job overlap; at most `extra` runs more than jobs."""
    counts = journal.run_counts()
    missing = set(jobs) - counts.keys()
    assert not missing, f"{len(missing)} jobs never ran, such as {sorted(missing)[:5]}"
    assert not journal.overlapping(), f"overlapping runs: {journal.overlapping()[:3]}"
    again = sum(count - 1 for count in counts.values())
    assert again <= extra, f"{again} extra runs, at most {extra} are explained by the faults"
    return again
