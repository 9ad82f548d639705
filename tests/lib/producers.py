"""Runs of prog_producer, and what became of their jobs."""

import collections

from lib import program

OUTCOMES = ("PGQ_OK", "PGQ_E_TIMEOUT", "PGQ_E_BACKPRESSURE", "PGQ_E_OUTCOME_UNKNOWN")


class Run:
    """A run of prog_producer, and what it has said of its jobs."""

    def __init__(self, processes, handlers, home, dsn, threads, jobs, *options, timeout_ms=60_000,
                 answer_timeout_ms=60_000):
        self.total = jobs if options else threads * jobs
        self._process = processes(
            [handlers["prog_producer"], dsn, threads, jobs, timeout_ms, answer_timeout_ms, *options],
            program.clean_environment(home))
        self._process.wait_log("^open", 20)
        self._read, self._lines = 0, 0

    def count(self):
        """The jobs that have an outcome; reads only what is new."""
        with open(self._process.log_path, "rb") as log:
            log.seek(self._read)
            new = log.read()
        self._read += len(new)
        self._lines += new.count(b"\n")
        return self._lines - 1

    def outcomes(self):
        """{payload: (code, id, message)} of a run that has ended."""
        found = {}
        for line in self._process.log().splitlines()[1:]:
            name, code, job_id, message = line.split(" ", 3)
            assert name not in found, "a job has two outcomes"
            found[name] = (code, int(job_id), message)
        return found

    def finish(self, deadline=120):
        assert self._process.wait(deadline) == 0, self._process.log()[-2000:]
        found = self.outcomes()
        assert len(found) == self.total
        return found

    @property
    def process(self):
        return self._process


def check(database, outcomes):
    """Each job against the table. Returns how often each outcome came."""
    there = collections.defaultdict(list)
    for name, job_id in database.rows(
            "SELECT convert_from(payload, 'utf8'), id FROM pgqueuer WHERE entrypoint = 'ok'"):
        there[name].append(job_id)
    logged = collections.Counter(
        job_id for (job_id,) in database.rows("SELECT job_id FROM pgqueuer_log WHERE entrypoint = 'ok'"))
    for name, (code, job_id, message) in outcomes.items():
        assert code in OUTCOMES, f"{name}: {code} {message}"
        if code == "PGQ_OK":
            assert there[name] == [job_id], f"{name}: acknowledged as {job_id}, there is {there[name]}"
        elif code == "PGQ_E_OUTCOME_UNKNOWN":
            assert len(there[name]) <= 1, f"{name}: unknown, and there as {there[name]}"
        else:
            assert there[name] == [], f"{name}: refused by {code}, and there as {there[name]}"
    assert set(there) <= set(outcomes) | {name for name, ids in there.items() if not ids}
    ids = [job_id for of_name in there.values() for job_id in of_name]
    assert logged == collections.Counter(ids), "each job has its one log row"
    counts = collections.Counter(code for code, _, _ in outcomes.values())
    print(f"outcomes: {dict(counts)}")
    return counts
