"""The registry of scenarios and what holds the tests to it, on small suites of their own."""

import runpy

import pytest

from lib.program import REPOSITORY
from lib.scenarios import REGISTRY, Scenario, Tally

pytest_plugins = ("pytester",)

SUITE = {
    "pytest.ini": f"[pytest]\npythonpath = {REPOSITORY / 'tests'}\naddopts = --import-mode=importlib\n",
    "tests/conftest.py": "from lib.scenarios import pytest_configure\n",
    "tests/interop/scenarios.py": """
from lib.scenarios import Scenario
SCENARIOS = {
    "a.one": Scenario("one", "1"),
    "a.two": Scenario("two", "1"),
    "a.sometimes": Scenario("it", "1", skipped_unless="the moon is full"),
    "b.elsewhere": Scenario("it", "1", folder="tests/cli"),
}
""",
    "tests/interop/test_a.py": """
import pytest
@pytest.mark.scenario("a.one")
@pytest.mark.parametrize("n", [1, 2])
def test_one(n): pass
@pytest.mark.scenario("a.two")
def test_two(): pass
@pytest.mark.scenario("a.sometimes")
def test_sometimes(): pytest.skip("no moon")
""",
    "tests/cli/test_b.py": """
import pytest
@pytest.mark.scenario("b.elsewhere")
def test_elsewhere(): pass
def test_of_something_else(): pass
""",
}


@pytest.fixture
def suite(pytester):
    """`suite(*arguments of pytest, changes=[(file, what, instead)])`: exit status and complaints."""

    def run(*arguments, changes=()):
        for name, text in SUITE.items():
            path = pytester.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            for file, what, instead in changes:
                if file == name:
                    assert what in text
                    text = text.replace(what, instead)
            path.write_text(text)
        done = pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)
        return done.ret, [line for line in done.outlines if "is listed" in line or " names " in line]

    return run


A = "tests/interop/test_a.py"
UNKNOWN = (A, '"a.two"', '"a.new"')
GONE = (A, "def test_two", "def no_two")


def test_a_run_of_all_fails_for_what_is_listed_and_did_not_run_and_the_other_way_round(suite):
    assert suite("tests") == (0, [])
    assert suite("tests", changes=[GONE]) == (1, ["a.two is listed and did not run"])
    assert suite("tests", changes=[UNKNOWN]) == (1, [
        f"{A}::test_two names a.new, which is not listed", "a.two is listed and did not run"])


def test_several_processes_count_together(suite):
    assert suite("-n", "2", "tests") == (0, [])
    assert suite("-n", "2", "tests", changes=[UNKNOWN]) == (1, [
        f"{A}::test_two names a.new, which is not listed", "a.two is listed and did not run"])


def test_a_run_of_a_part_is_not_asked_for_the_rest(suite):
    for part in ([f"{A}::test_one"], ["tests/interop", "-k", "one"], ["tests/interop", "-m", "not core"],
                 [A], ["tests", "--deselect", f"{A}::test_one"], ["tests", "--ignore", A],
                 ["tests/interop", "-x"]):
        broken = [(A, "def test_one(n): pass", "def test_one(n): assert False")] if "-x" in part else [GONE]
        assert suite(*part, changes=broken)[1] == []
    # what is run is looked at all the same
    assert suite(A, changes=[UNKNOWN]) == (1, [f"{A}::test_two names a.new, which is not listed"])


def test_a_folder_is_asked_for_its_own_scenarios(suite):
    gone = ("tests/cli/test_b.py", "def test_elsewhere", "def no_elsewhere")
    assert suite("tests/interop", changes=[gone]) == (0, [])
    assert suite("tests/cli", changes=[GONE]) == (0, [])
    assert suite(changes=[gone]) == (1, ["b.elsewhere is listed and did not run"])


def test_skipped_is_not_run_unless_the_registry_says_when():
    tally = Tally({"always": Scenario("it", "1"), "at times": Scenario("it", "1", skipped_unless="so")})
    for name in tally.scenarios:
        tally.add(f"tests/interop/test_x.py::test_{name}[one]", [name], "call", False)
        tally.add(f"tests/interop/test_x.py::test_{name}[two]", [name], "setup", True)
    assert list(tally.missing({"tests/interop"})) == ["always is listed and was skipped"]
    assert not tally.complaints


def test_each_test_of_interop_names_a_scenario_of_its_folder():
    tally = Tally({"other": Scenario("it", "1", folder="tests/cli")})
    tally.add("tests/interop/test_x.py::test_a[1]", [], "call", False)
    tally.add("tests/interop/test_x.py::test_b", ["other"], "call", False)
    tally.add("tests/cli/test_x.py::test_c", [], "call", False)
    assert tally.complaints == {
        "tests/interop/test_x.py::test_a names no scenario",
        "tests/interop/test_x.py::test_b names other, which is listed for tests/cli"}


def test_each_number_of_the_contracts_list_has_a_scenario_or_waits_for_something():
    registry = runpy.run_path(str(REPOSITORY / REGISTRY))
    proved = {number for row in registry["SCENARIOS"].values() for number in row.proves}
    waiting = {number for numbers in registry["NOT_YET"].values() for number in numbers}
    assert proved | waiting == set(registry["NUMBERS"]) and not proved & waiting
