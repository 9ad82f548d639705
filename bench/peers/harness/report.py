"""The results: the document, and RESULTS.md with its charts, made from it."""

import json

from harness.budgets import fastest_peer, judge, rounds
from harness.chart import bars
from harness.figures import number, ratio, spread, summary

TITLES = {
    "drain": ("Drain", "jobs a second that one worker takes from a full queue and finishes; handlers do nothing"),
    "bulk": ("Bulk enqueue", "jobs a second by the system's bulk API, on one connection"),
    "single1": ("Single enqueue, 1 connection", "jobs a second, each committed by itself"),
    "single8": ("Single enqueue, 8 connections", "jobs a second, each committed by itself"),
    "latency": ("Latency", "milliseconds from a job's commit to the start of its handler, on an idle worker"),
    "horizon": ("Horizon held", "jobs a second while a long transaction elsewhere keeps every dead row, at the end"),
    "backlog": ("Long backlog", "jobs a second at the front of a queue with a long backlog"),
}
LEADING = {"latency": "p50_ms"}
COLUMNS = {
    "drain": ("jobs_per_s", "wal_bytes_per_job", "commits_per_job", "statements_per_job", "cpu_us_per_job",
              "rss_mib"),
    "latency": ("p50_ms", "p99_ms", "max_ms"),
    "horizon": ("first_jobs_per_s", "jobs_per_s", "jobs_done", "rss_mib"),
}
HEADINGS = {
    "jobs_per_s": "jobs/s", "first_jobs_per_s": "first jobs/s", "wal_bytes_per_job": "WAL B",
    "commits_per_job": "commits", "statements_per_job": "statements", "cpu_us_per_job": "CPU µs",
    "rss_mib": "RSS MiB", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "max_ms": "max ms",
    "jobs_done": "jobs done",
}
WITH_SPREAD = ("jobs_per_s", "first_jobs_per_s", "p50_ms", "p99_ms")


# ---- the document --------------------------------------------------------------------------------


def _figures(turns):
    """Of one way in one cell: a summary of each figure, and why it failed, if it did."""
    names = {name for turn in turns for name in turn if name != "error"}
    found = {name: summary([turn.get(name) for turn in turns]) for name in sorted(names)}
    errors = [turn["error"] for turn in turns if "error" in turn]
    return {**found, **({"error": errors[0], "failed_rounds": len(errors)} if errors else {})}


def document(found, systems, ways, absent, run):
    result = {
        **run,
        "systems": {system.key: {"name": system.name, "version": system.version, "language": system.language,
                                 "not_run": absent.get(system.key)} for system in systems},
        "ways": {way.id: {"system": way.system, "name": way.name, "config": way.config,
                          "settings": way.settings, "processes": way.processes} for way in ways},
        "cells": {cell: {way: _figures(turns) for way, turns in by_way.items()}
                  for cell, by_way in found.items()},
    }
    return {**result, "budgets": list(judge(result))}


# ---- its parts in Markdown -----------------------------------------------------------------------


def table(headings, rows):
    """A Markdown table; all columns but the first are numbers."""
    lines = [f"| {' | '.join(headings)} |", "|---" + "|---:" * (len(headings) - 1) + "|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def _leading(cell):
    return LEADING.get(cell, "jobs_per_s")


def _ordered(document, cell):
    """Best first; those without a figure last."""
    figure, sign = _leading(cell), 1 if cell in LEADING else -1

    def key(item):
        median = item[1].get(figure, {}).get("median")
        return (median is None, 0 if median is None else sign * median)

    return sorted(document["cells"][cell].items(), key=key)


def _label(document, way):
    """The name, with the configuration where both were measured."""
    both = {entry["config"] for entry in document["ways"].values()} == {"best", "default"}
    entry = document["ways"][way]
    return f"{entry['name']} ({entry['config']})" if both else entry["name"]


def _not_run(document):
    return [(system["name"], system["not_run"]) for system in document["systems"].values()
            if system["not_run"]]


def cell_table(document, cell):
    columns = COLUMNS.get(cell, COLUMNS["drain"])
    rows = []
    for way, found in _ordered(document, cell):
        label = _label(document, way)
        if found.get(_leading(cell), {}).get("median") is None:
            rows.append([label, f"failed: {found.get('error', 'no figure')}"] + [""] * (len(columns) - 1))
            continue
        rows.append([f"**{label}**" if document["ways"][way]["system"] == "ours" else label,
                     *(spread(found[name]) if name in WITH_SPREAD else number(found[name]["median"])
                       for name in columns)])
    rows += [[name, f"not run: {why}"] + [""] * (len(columns) - 1) for name, why in _not_run(document)]
    return table(["", *(HEADINGS[name] for name in columns)], rows)


def chart(document, cell):
    lines = []
    for way, found in _ordered(document, cell):
        figures = found.get(_leading(cell), {"median": None})
        lines.append({"label": _label(document, way), "kind": document["ways"][way]["system"],
                      "value": figures["median"], "min": figures.get("min"), "max": figures.get("max"),
                      "text": "failed" if figures["median"] is None else number(figures["median"])})
    lines += [{"label": name, "kind": "peer", "value": None, "text": "not run"}
              for name, _ in _not_run(document)]
    title, note = TITLES[cell]
    return bars(title, note, lines)


def _times(cell, ours, theirs, document):
    """By how much ours is better, whichever direction is better; below 1 the peer is."""
    figure = _leading(cell)
    pair = (rounds(document, cell, ours, figure), rounds(document, cell, theirs, figure))
    return ratio(*(reversed(pair) if cell in LEADING else pair))


def verdicts(document, cell):
    """In words, from the numbers: how ours stand to the fastest peer. Where the peer wins, that."""
    sentences = []
    for config in ("best", "default"):
        peer = fastest_peer(document, cell, config)
        if peer is None:
            continue
        ours = [way for way in document["cells"][cell] if document["ways"][way]["system"] == "ours"
                and document["ways"][way]["config"] == config]
        said = [_verdict(document, cell, way, peer) for way in ours]
        if said := [words for words in said if words]:
            sentences.append(f"The fastest peer is **{_label(document, peer)}**. " + " ".join(said))
    return "\n\n".join(sentences)


def _verdict(document, cell, way, peer):
    times = _times(cell, way, peer, document)
    if times is None:
        return None
    name, other = _label(document, way), _label(document, peer)
    if times < 1:
        return f"**{other} wins against {name}**: it is {number(1 / times)} × as {_good(cell)}."
    return f"{name} is {number(times)} × as {_good(cell)}."


def _good(cell):
    return "quick" if cell in LEADING else "fast"


def _limit(budget):
    return number(budget["limit"]) if budget["limit"] is not None else ""


def budget_table(document):
    signs = {True: "≤", False: "≥"}
    rows = [[f"{TITLES[budget['cell']][0]}, {budget['policy']}: {budget['what']}", number(budget["is"]),
             f"{signs[budget['at_most']]} {number(budget['bound'])}", _limit(budget), budget["verdict"]]
            for budget in document["budgets"]]
    return table(["budget", "is", "has to be", "the bare loop", ""], rows)


# ---- the page ------------------------------------------------------------------------------------

INTRODUCTION = """# Other queues beside this one

Made by `make {target}`: all systems interleaved in one run, on one private PostgreSQL with fsync {fsync},
every cell once a round. A cell is bounded in time, {warm} s of warm-up and {run} s that count, and gives a
rate, not the time of a whole queue. Cells are medians over {rounds}, with the smallest and the largest in brackets.
Absolute figures belong to this machine; ratios travel better. How it is measured, and what the columns are:
[docs/guide/benchmarking.md](../docs/guide/benchmarking.md).
"""


def _rounds(document):
    return "1 round" if document["rounds"] == 1 else f"{document['rounds']} rounds"


def _machine(document):
    machine, server = document["machine"], document["server"]
    settings = ", ".join(f"{name} {value}" for name, value in server["settings"].items())
    return table(["", ""], [
        ["date", document["date"]],
        ["revision", document["revision"] or "unknown"],
        ["machine", f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB,"
                    f" {machine['kernel']}; workers, producers and the server share it"],
        ["PostgreSQL", f"{server['version']}; {settings}"],
        ["run", f"{_rounds(document)}, {document['minutes']} minutes with what had to be installed"],
    ]).replace("---:", "---")


def _configurations(document):
    rows = []
    for way in document["ways"].values():
        system = document["systems"][way["system"]]
        rows.append([way["name"], f"{system['name']} {system['version']} ({system['language']})", way["config"],
                     way["settings"]])
    for system in document["systems"].values():
        if system["not_run"]:
            rows.append([system["name"], f"{system['name']} {system['version']} ({system['language']})",
                         "not run", system["not_run"]])
    return table(["", "version", "configuration", "settings"], rows).replace("---:", "---")


NOTES = """The full, terminal and failures of ours and of the bare loop are log policies: what of a job stays in
the log table. River, pg-boss and Awa keep finished jobs; Graphile Worker and Procrastinate (with these settings)
delete them and record nothing; PGQueuer writes the rows of `full`. The bare loop is a C program with the SQL of
ours and nothing around it: the limit. It enqueues with fewer columns, and many by a COPY of text, where ours is
binary. Jobs are counted by what is left in the database; for Awa, by what is claimed.
"""


def page(document):
    target = "bench-peers-full" if document["full"] else "bench-peers"
    parts = [INTRODUCTION.format(target=target, warm=f"{document['warm_ms'] / 1000:g}",
                                 run=f"{document['run_ms'] / 1000:g}", rounds=_rounds(document),
                                 fsync=document["server"]["settings"]["fsync"]),
             _machine(document), "\n## Who, and how\n", _configurations(document), "\n" + NOTES]
    for cell in document["cells"]:
        title, note = TITLES[cell]
        parts += [f"## {title}\n", f"{note[0].upper()}{note[1:]}.\n", f"![{title}](results/{cell}.svg)\n",
                  cell_table(document, cell) + "\n", verdicts(document, cell) + "\n"]
    if document["budgets"]:
        parts += ["## What we promise\n", "Where we are compared with a peer, the last figure is what the bare"
                  " loop reaches in this run.\n",
                  budget_table(document) + "\n"]
    return "\n".join(part for part in parts if part.strip())


def write(document, folder):
    """RESULTS.md, and results/ with the charts and the document."""
    (folder / "results").mkdir(parents=True, exist_ok=True)
    for cell in document["cells"]:
        (folder / "results" / f"{cell}.svg").write_text(chart(document, cell))
    (folder / "results" / "peers.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    (folder / "RESULTS.md").write_text(page(document))
