"""bench/peers: its arithmetic and its page, without running a peer; and one small run of the whole, with
ours and the bare loop only. No figure is judged here: that is what `make bench-peers` is for."""

import argparse
import dataclasses
import json
import subprocess
import sys
import xml.etree.ElementTree as xml

import pytest

from lib import program

PEERS = program.REPOSITORY / "bench" / "peers"
CELLS = ("drain", "bulk", "single1", "single8", "latency")
RUN_SECONDS = 240
sys.path.insert(0, str(PEERS))

import run  # noqa: E402
from harness import budgets, chart, figures, install, report, systems  # noqa: E402


def summaries(**values):
    return {name: figures.summary(rounds) for name, rounds in values.items()}


def made(cells, not_run=None):
    """A document of ours in `full`, the bare loop, and two peers."""
    ways = {"ours, full, best": ("ours", "best"), "ours, full, default": ("ours", "default"),
            "bare loop, full, best": ("bare", "best"), "PGQueuer, best": ("pgqueuer", "best"),
            "River, best": ("river", "best")}
    document = {
        "date": "2026-01-02 03:04 UTC", "revision": "abc", "rounds": 3, "minutes": 1, "full": False,
        "warm_ms": 1000, "run_ms": 4000,
        "machine": {"cpu": "a processor", "cores": 2, "memory_gib": 24.0, "kernel": "Linux 6"},
        "server": {"version": "15.1", "settings": {"fsync": "on"}},
        "systems": {key: {"name": key.title(), "version": "1", "language": "C", "not_run": None}
                    for key in ("ours", "bare", "pgqueuer", "river")},
        "ways": {way: {"system": system, "name": way.rpartition(",")[0], "config": config, "processes": 1,
                       "settings": "as they are"} for way, (system, config) in ways.items()
                 if any(way in found for found in cells.values())},
        "cells": cells,
    }
    for name, why in (not_run or {}).items():
        document["systems"][name] = {"name": name, "version": "9", "language": "Rust", "not_run": why}
    return {**document, "budgets": list(budgets.judge(document))}


def drain(**ways):
    costs = {name: [1.0] * 3 for name in report.COLUMNS["drain"] if name != "jobs_per_s"}
    return {way: summaries(jobs_per_s=rates, **costs) for way, rates in ways.items()}


# -- arithmetic ------------------------------------------------------------------------------------


def test_a_summary_is_the_median_and_the_spread_and_leaves_failed_rounds_out():
    found = figures.summary([3.0, None, 1.0, 8.0])
    assert (found["median"], found["min"], found["max"]) == (3.0, 1.0, 8.0)
    assert found["rounds"] == [3.0, None, 1.0, 8.0]
    assert figures.summary([None])["median"] is None and figures.summary([])["median"] is None


def test_a_rate_comes_from_two_looks_at_what_is_left():
    assert figures.rate((10.0, 5000), (14.0, 1000)) == 1000.0
    assert figures.rate((10.0, 5000), (10.0, 1000)) is None


def test_a_ratio_is_the_median_of_the_ratios_in_a_round():
    # the medians of both are 10, their ratio would be 1
    assert figures.ratio([10, 40, 5], [10, 10, 10]) == 1
    assert figures.ratio([30, 10, 2], [10, 1, 100]) == 3
    assert figures.ratio([None, 8], [1, 4]) == 2 and figures.ratio([], [1]) is None


@pytest.mark.parametrize("share, expected", [(50, 50), (99, 99), (100, 100), (1, 1)])
def test_a_percentile_is_the_smallest_sample_that_so_many_do_not_exceed(share, expected):
    assert figures.percentile(list(range(100, 0, -1)), share) == expected


def test_a_percentile_of_few_samples_is_one_of_them():
    assert figures.percentile([7.5], 99) == 7.5 and figures.percentile([], 50) is None


def test_costs_are_what_the_counters_grew_by_for_each_job():
    before, after = {"wal_bytes": 1000.0, "commits": 5.0}, {"wal_bytes": 3000.0, "commits": 10.0}
    assert figures.per_job(before, after, 10) == {"wal_bytes_per_job": 200, "commits_per_job": 0.5}
    assert figures.per_job(before, after, 0) == {"wal_bytes_per_job": None, "commits_per_job": None}


@pytest.mark.parametrize("value, text", [
    (None, "–"), (0, "0"), (0.0001, "< 0.001"), (0.0021, "0.002"), (0.333, "0.33"), (4.163, "4.16"), (17.26, "17.3"),
    (640.4, "640"), (2166, "2 170"), (24837, "24 800"), (1234567, "1 230 000"),
])
def test_numbers_are_short(value, text):
    assert figures.number(value) == text


def test_a_spread_has_brackets_when_there_was_more_than_one_round():
    assert figures.spread(figures.summary([1000.0, 2000.0, 4000.0])) == "2 000 (1 000 – 4 000)"
    assert figures.spread(figures.summary([1000.0])) == "1 000"


@pytest.mark.parametrize("found, least, enough", [
    ("v22.18.0", "22.18.0", True), ("v22.23.3", "22.18.0", True), ("v20.20.2", "22.12.0", False),
    ("v9.99.0", "22.12.0", False),
])
def test_a_toolchain_is_new_enough_by_numbers_and_not_by_letters(found, least, enough):
    assert install.at_least(found, least) is enough


def test_a_missing_toolchain_is_said_by_name(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(install.Absent, match="there is no cargo here"):
        install.tool("cargo")


def test_a_peer_that_cannot_be_installed_leaves_the_others(monkeypatch):
    def refuse(folder):
        raise install.Absent("it is too old here")

    found = {key: dataclasses.replace(system, prepare=(refuse if key == "awa" else lambda folder: ("program",)))
             for key, system in ((system.key, system) for system in systems.PEERS)}
    monkeypatch.setattr(systems, "PEERS", tuple(found.values()))
    ready, absent = run.prepare(argparse.Namespace(only=("awa", "river")))
    assert absent == {"awa": "it is too old here"}
    assert [system.key for system, _, _ in ready] == ["river"]
    assert [way.work for way in ready[0][2]] == [("program", "work", "best"), ("program", "work", "default")]


# -- the page --------------------------------------------------------------------------------------


def test_the_page_has_a_row_for_every_way_the_best_first():
    page = report.page(made({"drain": drain(**{
        "River, best": [100.0] * 3, "ours, full, best": [400.0, 300.0, 500.0], "PGQueuer, best": [200.0] * 3})}))
    rows = [line for line in page.splitlines() if line.startswith("| ") and "400" in line or "| 200 " in line
            or "| 100 " in line]
    assert [row.split("|")[1].strip() for row in rows] == ["**ours, full**", "PGQueuer", "River"]
    assert "400 (300 – 500)" in rows[0]
    assert "results/drain.svg" in page and "2026-01-02" in page and "fsync on" in page


def test_a_peer_that_cannot_run_is_named_with_the_reason():
    document = made({"drain": drain(**{"ours, full, best": [1.0] * 3})}, {"Awa": "there is no cargo here"})
    page = report.page(document)
    assert "| Awa | not run: there is no cargo here |" in page
    assert "| Awa | Awa 9 (Rust) | not run | there is no cargo here |" in page
    assert "not run" in report.chart(document, "drain")


def test_a_cell_that_failed_says_so_and_the_others_stay():
    cells = {"drain": {"River, best": report._figures([{"error": "it broke"}] * 3),
                       **drain(**{"ours, full, best": [5.0] * 3})}}
    page = report.page(made(cells))
    assert "failed: it broke" in page and "**ours, full**" in page


def test_a_round_that_failed_leaves_the_others():
    found = report._figures([{"jobs_per_s": 10.0}, {"error": "late"}, {"jobs_per_s": 30.0}])
    assert found["jobs_per_s"]["median"] == 20.0 and found["failed_rounds"] == 1 and found["error"] == "late"


def test_the_page_says_where_a_peer_wins():
    document = made({"drain": drain(**{"River, best": [300.0] * 3, "ours, full, best": [100.0] * 3})})
    assert "**River wins against ours, full**: it is 3.00 × as fast" in report.verdicts(document, "drain")


def test_the_page_says_by_how_much_ours_are_faster_than_the_fastest_peer():
    document = made({"drain": drain(**{"River, best": [100.0] * 3, "PGQueuer, best": [50.0] * 3,
                                       "ours, full, best": [250.0] * 3})})
    said = report.verdicts(document, "drain")
    assert "fastest peer is **River**" in said and "ours, full is 2.50 × as fast" in said and "wins" not in said


def test_the_quickest_has_the_lowest_latency():
    cells = {"latency": {way: summaries(p50_ms=values, p99_ms=values, max_ms=values) for way, values in {
        "River, best": [1.0] * 3, "PGQueuer, best": [2.0] * 3, "ours, full, best": [4.0] * 3}.items()}}
    said = report.verdicts(made(cells), "latency")
    assert "fastest peer is **River**" in said and "**River wins against ours, full**: it is 4.00 ×" in said


# -- the budgets -----------------------------------------------------------------------------------


def test_a_budget_is_kept_or_missed_by_its_ratio_in_this_run():
    document = made({"drain": drain(**{"ours, full, best": [96.0] * 3, "bare loop, full, best": [100.0] * 3,
                                       "River, best": [60.0] * 3, "PGQueuer, best": [30.0] * 3})})
    found = {budget["what"]: budget for budget in document["budgets"] if budget["policy"] == "full"}
    assert found["× the fastest peer"]["is"] == pytest.approx(1.6)
    assert found["× the fastest peer"]["verdict"] == "missed"
    assert found["× the fastest peer"]["limit"] == pytest.approx(100 / 60)  # of the bare loop
    assert found["WAL bytes a job"]["limit"] is None
    assert found["× PGQueuer"]["is"] == pytest.approx(3.2) and found["× PGQueuer"]["verdict"] == "ok"
    assert found["WAL bytes a job"]["verdict"] == "ok"
    assert found["of it with the defaults"]["verdict"] == "not measured"


def test_a_latency_budget_is_a_difference_to_the_bare_loop():
    cells = {"latency": {"ours, full, best": summaries(p50_ms=[0.3, 0.5, 0.4], p99_ms=[1.0] * 3),
                         "bare loop, full, best": summaries(p50_ms=[0.25, 0.35, 0.2], p99_ms=[0.2] * 3)}}
    found = {budget["what"]: budget for budget in made(cells)["budgets"]}
    assert found["ms above the bare loop, p50"]["is"] == pytest.approx(0.15)
    assert found["ms above the bare loop, p50"]["verdict"] == "missed"
    assert found["ms above the bare loop, p99"]["is"] == pytest.approx(0.8)


# -- charts and configurations ---------------------------------------------------------------------


def test_a_chart_is_an_image_with_a_bar_for_each_figure():
    lines = [{"label": "a <b>", "kind": "ours", "value": 10.0, "min": 9.0, "max": 12.0, "text": "10"},
             {"label": "c", "kind": "river", "value": 5.0, "min": 5.0, "max": 5.0, "text": "5"},
             {"label": "d", "kind": "peer", "value": None, "text": "not run"}]
    root = xml.fromstring(chart.bars("title", "note", lines))
    bars = [bar for bar in root.findall(".//{*}rect") if bar.get("fill")]
    assert len(bars) == 2
    assert float(bars[0].get("width")) == pytest.approx(2 * float(bars[1].get("width")), rel=0.01)
    assert bars[0].get("fill") != bars[1].get("fill")
    assert {"a <b>", "not run"} <= {text.text for text in root.findall(".//{*}text")}


def test_the_versions_that_are_shown_are_those_that_are_pinned():
    pins = {"pgqueuer": "pgqueuer/requirements.txt", "procrastinate": "procrastinate/requirements.txt",
            "graphile": "graphile/package.json", "pgboss": "pgboss/package.json", "river": "river/go.mod",
            "awa": "awa/Cargo.toml"}
    assert {system.key for system in systems.PEERS} == set(pins)
    for system in systems.PEERS:
        assert system.version in (PEERS / pins[system.key]).read_text(), system.name
        assert set(system.configs) == {"best", "default"}


# -- a run -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """A run of ours and the bare loop, whose cells last a moment."""
    out = tmp_path_factory.mktemp("peers")
    program.require_program()
    subprocess.run(
        [sys.executable, PEERS / "run.py", "--only", "ours,bare", "--rounds", "1", "--warm-ms", "200", "--run-ms",
         "500", "--cells", ",".join(CELLS), "--no-fsync", "--out", out], check=True, timeout=RUN_SECONDS)
    return out, json.loads((out / "results" / "peers.json").read_text())


@pytest.mark.timeout(RUN_SECONDS + 30)
def test_a_small_run_measures_every_cell_of_ours_and_of_the_bare_loop(small_run):
    _, document = small_run
    assert document["server"]["settings"]["fsync"] == "off" and document["machine"]["cores"] > 0
    for cell in CELLS[:-1]:
        for way, found in document["cells"][cell].items():
            assert "error" not in found, (cell, way, found)
            assert found["jobs_per_s"]["median"] > 0 and found["wal_bytes_per_job"]["median"] > 0
            assert found["rss_mib"]["median"] > 0 and found["statements_per_job"]["median"] is not None
        assert len(document["cells"][cell]) == {"drain": 6, "bulk": 4}.get(cell, 5)
    for way, found in document["cells"]["latency"].items():
        # Below 0: in hand before the producer knew of its commit, which happens on a busy machine.
        assert found["p50_ms"]["median"] <= found["p99_ms"]["median"] <= found["max_ms"]["median"], way
        assert all(-1000 < found[f"{figure}_ms"]["median"] < 10_000 for figure in ("p50", "p99", "max")), way


@pytest.mark.timeout(RUN_SECONDS + 30)
def test_a_small_run_writes_its_page_and_its_charts(small_run):
    out, document = small_run
    page = (out / "RESULTS.md").read_text()
    for cell in document["cells"]:
        assert f"results/{cell}.svg" in page
        xml.parse(out / "results" / f"{cell}.svg")
    assert "ours, failures" in page and "bare loop, failures" in page
