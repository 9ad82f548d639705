"""The registry of scenarios, tests/interop/scenarios.py, and what holds a run of the tests to it.

A test names its scenarios: `@pytest.mark.scenario("enqueue.c-to-python")`, several if it shows
several; each test of tests/interop names one at least. The suite fails

- if a test names a scenario that is not listed, or one that is listed for another folder;
- if a test of tests/interop names none;
- after a run of all of a folder: if a scenario that is listed for it did not run, or was skipped
  though the registry does not say when it may be.

Ids go from the tests to whoever counts them with the reports, so pytest-xdist makes no difference.
"""

import dataclasses
import runpy
from pathlib import Path

import pytest

REGISTRY = Path("tests") / "interop" / "scenarios.py"
STRICT = "tests/interop"  # the folder where each test names a scenario
# Options of pytest that choose among the tests, as `config.option` has them.
NARROWING = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf", "stepwise", "collectonly")


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One row of the registry."""

    says: str  # what holds, in a line
    contract: str  # the section of the wire contract
    proves: tuple = ()  # numbers of its list of tests, section 12
    folder: str = STRICT  # where its tests are
    skipped_unless: str = ""  # on which condition its tests run; empty: they always do


class Tally:
    """What ran, by scenario."""

    def __init__(self, scenarios):
        self.scenarios = scenarios
        self.ran, self.skipped, self.complaints = set(), set(), set()

    def add(self, nodeid, ids, when, skipped):
        test = nodeid.split("[")[0]
        folder = str(Path(nodeid.split("::")[0]).parent.as_posix())
        if not ids and folder == STRICT:
            self.complaints.add(f"{test} names no scenario")
        for name in ids:
            listed = self.scenarios.get(name)
            if listed is None:
                self.complaints.add(f"{test} names {name}, which is not listed")
            elif listed.folder != folder:
                self.complaints.add(f"{test} names {name}, which is listed for {listed.folder}")
        if skipped:
            self.skipped.update(ids)
        elif when == "call":
            self.ran.update(ids)

    def missing(self, folders):
        """Of folders of which all was to run."""
        for name, listed in self.scenarios.items():
            if listed.folder not in folders:
                continue
            if name in self.skipped and not listed.skipped_unless:
                yield f"{name} is listed and was skipped"
            elif name not in self.ran and name not in self.skipped:
                yield f"{name} is listed and did not run"


def whole_folders(config, folders):
    """Those of which this run was to run everything."""
    if any(getattr(config.option, option, None) for option in NARROWING):
        return set()
    root = config.rootpath
    chosen = [(config.invocation_params.dir / argument).resolve() for argument in config.args]
    return {folder for folder in folders
            if any(path == root / folder or path in (root / folder).parents for path in chosen)}


class Check:
    """The plugin. Where tests run, ids go into the reports; where reports come together, they are
    counted. Without xdist both are one process."""

    def __init__(self, config):
        self.config = config
        self.counts = not hasattr(config, "workerinput")
        scenarios = runpy.run_path(str(config.rootpath / REGISTRY))["SCENARIOS"] if self.counts else {}
        self.tally = Tally(scenarios)
        self.found = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        report.scenarios = [name for mark in item.iter_markers("scenario") for name in mark.args]
        return report

    def pytest_runtest_logreport(self, report):
        if self.counts and hasattr(report, "scenarios"):  # not of a process of xdist that died
            self.tally.add(report.nodeid, report.scenarios, report.when,
                           report.skipped and not hasattr(report, "wasxfail"))

    def pytest_sessionfinish(self, session, exitstatus):
        if not self.counts:
            return
        self.found = sorted(self.tally.complaints)
        ended = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        if ended and not session.shouldstop and not session.shouldfail:
            folders = {listed.folder for listed in self.tally.scenarios.values()}
            self.found += self.tally.missing(whole_folders(self.config, folders))
        if self.found and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        if self.found:
            terminalreporter.section(f"scenarios ({REGISTRY})", red=True)
            for line in self.found:
                terminalreporter.line(line, red=True)


def pytest_configure(config):
    config.addinivalue_line("markers", "scenario(id, ...): shows these scenarios of the registry")
    config.pluginmanager.register(Check(config), "scenarios")
