"""What we promise beside the peers, and whether the run shows it."""

from harness.figures import ratio, summary

# (cell, our way, figure, "bare" or "peer" or "pgqueuer" or None, bound, words); a bound below is
# "at least" but for the figures in LESS.
LESS = ("wal_bytes_per_job", "p50_ms", "p99_ms")
BUDGETS = (
    ("drain", "failures", "jobs_per_s", "bare", 0.95, "of the bare loop"),
    ("drain", "failures", "jobs_per_s", "peer", 7.5, "× the fastest peer"),
    ("drain", "failures", "wal_bytes_per_job", None, 130, "WAL bytes a job"),
    ("drain", "terminal", "jobs_per_s", "bare", 0.95, "of the bare loop"),
    ("drain", "terminal", "jobs_per_s", "peer", 2.8, "× the fastest peer"),
    ("drain", "terminal", "wal_bytes_per_job", None, 600, "WAL bytes a job"),
    ("drain", "full", "jobs_per_s", "peer", 2, "× the fastest peer"),
    ("drain", "full", "jobs_per_s", "pgqueuer", 3, "× PGQueuer"),
    ("drain", "full", "wal_bytes_per_job", None, 1000, "WAL bytes a job"),
    ("drain", "failures", "jobs_per_s", "default", 0.9, "of it with the defaults"),
    ("drain", "terminal", "jobs_per_s", "default", 0.9, "of it with the defaults"),
    ("drain", "full", "jobs_per_s", "default", 0.9, "of it with the defaults"),
    ("bulk", "full", "jobs_per_s", "bare", 0.9, "of bare COPY"),
    ("bulk", "full", "jobs_per_s", "pgqueuer", 2, "× PGQueuer"),
    ("bulk", "terminal", "jobs_per_s", "peer", 1.4, "× the fastest peer"),
    ("single1", "full", "jobs_per_s", "bare", 0.9, "of the bare loop"),
    ("single1", "full", "jobs_per_s", "peer", 2, "× the fastest peer"),
    ("single8", "full", "jobs_per_s", "bare", 0.9, "of the bare loop"),
    ("single8", "full", "jobs_per_s", "peer", 2, "× the fastest peer"),
    ("latency", "full", "p50_ms", "bare", 0.1, "ms above the bare loop, p50"),
    ("latency", "full", "p99_ms", "bare", 0.5, "ms above the bare loop, p99"),
    ("latency", "full", "p50_ms", "peer", 1 / 3, "of the fastest peer's p50"),
    ("horizon", "terminal", "jobs_per_s", "peer", 4, "× the fastest peer, at the end"),
    ("horizon", "failures", "jobs_per_s", "peer", 4, "× the fastest peer, at the end"),
)


def rounds(document, cell, way, figure):
    found = document["cells"].get(cell, {}).get(way, {}).get(figure)
    return found["rounds"] if found else []


def fastest_peer(document, cell, config="best"):
    """The peer's way with the best median of the cell's leading figure, or None."""
    figure = "p50_ms" if cell == "latency" else "jobs_per_s"
    sign = -1 if cell == "latency" else 1
    medians = [(sign * found[figure]["median"], way) for way, found in document["cells"].get(cell, {}).items()
               if document["ways"][way]["config"] == config
               and document["ways"][way]["system"] not in ("ours", "bare")
               and found.get(figure, {}).get("median") is not None]
    return max(medians)[1] if medians else None


def _other(document, cell, policy, against):
    if against == "bare":
        return f"bare loop, {policy}, best"
    if against == "pgqueuer":
        return "PGQueuer, best"
    if against == "default":
        return f"ours, {policy}, default"
    return fastest_peer(document, cell)


def _measure(document, cell, policy, figure, against, who="ours"):
    ours = rounds(document, cell, f"{who}, {policy}, best", figure)
    if against is None:
        return summary(ours)["median"]
    theirs = rounds(document, cell, _other(document, cell, policy, against), figure)
    if figure in LESS and against == "bare":
        return summary([a - b for a, b in zip(ours, theirs) if a is not None and b is not None])["median"]
    if against == "default":
        return ratio(theirs, ours)
    return ratio(ours, theirs)


def judge(document):
    """Each budget of the cells that were measured, with what was found; beside a peer also with what
    the bare loop reaches: what no worker with this SQL can exceed by much."""
    for cell, policy, figure, against, bound, words in BUDGETS:
        if cell not in document["cells"]:
            continue
        found = _measure(document, cell, policy, figure, against)
        kept = None if found is None else found <= bound if figure in LESS else found >= bound
        yield {"cell": cell, "policy": policy, "what": words, "is": found, "bound": bound,
               "limit": _measure(document, cell, policy, figure, against, "bare loop")
               if against in ("peer", "pgqueuer") else None,
               "at_most": figure in LESS,
               "verdict": "not measured" if kept is None else "ok" if kept else "missed"}
