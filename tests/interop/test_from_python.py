"""docs/guide/from-python.md: its two programs, run as they stand there, alone, beside each other and back;
and its table of commands, beside what both programs say of themselves."""

import collections
import json
import os
import re
import subprocess

import pytest

from lib import program
from lib.upgrade import python_plan
from lib.waiting import wait_until

pytestmark = pytest.mark.interop

GUIDE = program.REPOSITORY / "docs" / "guide" / "from-python.md"
ADDRESSES = [f"customer{n}@example.org" for n in range(8)]
NOT_YET = "not yet"


class Shop:
    """Both programs of the guide, their worker and their producer, with a common outbox."""

    def __init__(self, folder, database, processes, home):
        text = GUIDE.read_text()
        [python], [c] = (re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)
                         for language in ("python", "c"))
        (folder / "shop.py").write_text(python)
        (folder / "shop.c").write_text(c)
        self.folder, self.database, self.processes = folder, database, processes
        self.outbox = folder / "outbox.txt"
        self.environment = program.clean_environment(
            home, PGDSN=database.dsn, PYTHONPATH=folder, PYTHONDONTWRITEBYTECODE=1, PYTHONUNBUFFERED=1)
        self._build(c)

    def _build(self, source):
        """By the commands that stand at the program's head."""
        environment = {**os.environ, "PKG_CONFIG_PATH": str(program.BUILD / "meson-uninstalled"),
                       "LD_RUN_PATH": str(program.BUILD)}
        commands = re.findall(r"^ ?[/ ]\*  (cc .*)$", source, re.M)
        assert len(commands) == 2
        for command in commands:
            done = subprocess.run(command + " -Wall -Wextra -Werror", shell=True, cwd=self.folder,
                                  env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr

    def _run(self, command):
        done = program.run(command, self.environment, cwd=self.folder, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def enqueue(self, side, kind, texts):
        command = {"python": [program.python_bin() / "python", "shop.py"], "c": ["./shop"]}[side]
        return [int(job_id) for job_id in self._run([*command, kind, *texts]).split()]

    def _worker(self, side, options):
        command = {"python": [program.python_bin() / "pgq", "run", "shop:factory"],
                   "c": [program.PROGRAM, "run", "./libshop.so:factory"]}[side]
        return [*command, *options, "--", self.outbox]

    def drain(self, side):
        self._run(self._worker(side, ["--mode", "drain"]))

    def start(self, side, *options):
        options = ["--heartbeat-timeout", "2", "--dequeue-timeout", "1", *options]
        return self.processes(self._worker(side, options), self.environment, cwd=self.folder)

    def delivered(self):
        return sorted(self.outbox.read_text().splitlines()) if self.outbox.exists() else []

    def log(self, ids):
        """The log rows of each kind of job, and what the failed ones say, without times and ids."""
        return collections.Counter(self.database.rows(
            "SELECT entrypoint, status::text, traceback ->> 'exception_type', traceback ->> 'exception_message',"
            " traceback #>> '{additional_context,retry_delay}', traceback #>> '{additional_context,attempt}'"
            " FROM pgqueuer_log WHERE job_id = ANY(%s)", [ids]))


@pytest.fixture
def shop(db, tmp_path, processes, home, python_pgq):
    """On a schema that the Python release has installed."""
    assert python_pgq(db, "install").returncode == 0
    return Shop(tmp_path, db, processes, home)


def expected(*groups):
    return sorted(f"{kind} {text}" for kind, texts in groups for text in texts)


def both_kinds(shop, side):
    return shop.enqueue(side, "receipt", [*ADDRESSES, "nobody"]) + shop.enqueue(side, "label", ["1", "2", "3"])


@pytest.mark.scenario("moving.same-program")
@pytest.mark.parametrize("producer", ["python", "c"])
def test_both_programs_do_the_same_for_jobs_of_either(shop, producer):
    logs = {}
    for worker in ("python", "c"):
        ids = both_kinds(shop, producer)
        shop.drain(worker)
        assert shop.delivered() == expected(("receipt", ADDRESSES), ("label", "123"))
        logs[worker] = shop.log(ids)
        shop.outbox.unlink()
        held = shop.database.rows("SELECT id, convert_from(payload, 'UTF8'), status::text FROM pgqueuer")
        assert held == [(ids[len(ADDRESSES)], "nobody", "failed")]
        shop.database.execute("DELETE FROM pgqueuer")
    assert logs["c"] == logs["python"] and logs["c"].total() == 3 * 9 + 5 * 3


@pytest.mark.scenario("moving.mixed")
def test_a_mixed_fleet_delivers_each_job_once_and_what_one_side_holds_the_other_requeues(
    shop, pgqueuer, python_pgq
):
    workers = {side: shop.start(side, "--batch-size", "10") for side in ("c", "python")}
    workers["c"].wait_log("worker.listening")
    texts = [[f"a{round}-{n}@example.org" for n in range(20)] for round in range(6)]
    for round, some in enumerate(texts):
        shop.enqueue(["python", "c"][round % 2], "receipt", some)
    shop.enqueue("c", "label", map(str, range(20)))
    held = [job_id for side in ("python", "c") for job_id in shop.enqueue(side, "receipt", ["x", "y"])]
    wanted = expected(*[("receipt", some) for some in texts], ("label", map(str, range(20))))
    wait_until(lambda: shop.database.job_count("status = 'failed'") == 4 == shop.database.job_count(), 60,
               lambda: f"all but the held ones end, left: {shop.database.job_count()}")
    assert shop.delivered() == wanted
    shop.database.execute("UPDATE pgqueuer SET payload = 'found@example.org'")
    assert pgqueuer("requeue", *held[:2], dsn=shop.database).returncode == 0
    assert python_pgq(shop.database, "requeue", *held[2:]).returncode == 0
    wait_until(lambda: shop.database.job_count() == 0, 60, "the held ones end")
    assert shop.delivered() == sorted(wanted + 4 * ["receipt found@example.org"])
    assert [worker.stop() for worker in workers.values()] == [0, 0]


@pytest.mark.scenario("moving.back")
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_going_back_the_jobs_of_a_c_worker_go_to_python(shop, pgqueuer, python_pgq, end):
    """Also those that it had picked when it was killed."""
    pgqueuer("install", "--extras", dsn=shop.database)
    worker = shop.start("c")
    worker.wait_log("worker.listening")
    shop.enqueue("python", "receipt", ADDRESSES[:4])
    wait_until(lambda: len(shop.delivered()) == 4 and shop.database.job_count() == 0, 20, "the C worker works")
    if end == "stop":
        assert worker.stop() == 0
    else:
        worker.kill()
    ids = shop.enqueue("c", "receipt", ADDRESSES[4:])
    if end == "kill":  # as the worker would have left them
        shop.database.execute("UPDATE pgqueuer SET status = 'picked', queue_manager_id = gen_random_uuid()")
    [back] = re.findall(r"`(DROP SCHEMA .*?)`", GUIDE.read_text())
    shop.database.execute(back)
    python = shop.start("python")
    wait_until(lambda: shop.delivered() == expected(("receipt", ADDRESSES)), 60,
               lambda: f"Python's worker takes them: {shop.delivered()}")
    wait_until(lambda: shop.database.job_count() == 0, 10, "their rows are gone")
    assert python.stop() == 0
    assert len(ids) == 4 and len(python_plan(python_pgq, shop.database)) <= 1
    assert python_pgq(shop.database, "verify", "--expect", "present").returncode == 0


# -- the table of commands ---------------------------------------------------------------------------


HELP = """
import json, sys
from typer.testing import CliRunner
from pgqueuer.adapters.cli.cli import app
json.dump({name: CliRunner().invoke(app, [*name.split(), "--help"]).output for name in sys.argv[1:]}, sys.stdout)
"""


@pytest.fixture
def python_help(home):
    """`python_help(name, ...)`: the help of Python's commands by their names; "" is that of the program."""

    def read(*names):
        done = program.run([program.python_bin() / "python", "-c", HELP, *names],
                           program.clean_environment(home, COLUMNS=200))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return read


def table():
    chapter = GUIDE.read_text().split("\n## Commands\n\n")[1].split("\n\n")[0]
    return {name: ours for name, ours in re.findall(r"^\| `(.*?)` \| `?(.*?)`? \|", chapter, re.M)}


@pytest.mark.scenario("moving.commands")
def test_the_table_names_every_command_of_python_and_says_what_there_is_here(python_help, pgqueuer):
    rows = table()
    commands = {group: re.findall(r"^│ ([a-z]+) ", text.split("Commands ")[1], re.M)
                for group, text in python_help("", "sql").items()}
    commands[""].remove("sql")
    assert sorted(rows) == sorted(commands[""] + [f"sql {name}" for name in commands["sql"]])
    there = re.findall(r"^  ([a-z]+(?: [a-z]+)?)  ", pgqueuer("--help").stdout, re.M)
    assert "sql install" in there and "run" in there
    for name, ours in rows.items():
        if ours == NOT_YET:
            assert name not in there, f"{name} has come: say so in {GUIDE.name}"
        else:
            assert ours in there, ours


def options_of(text):
    """Of a help, of either program, or of the guide."""
    found = re.findall(r"^(?:│[ *]+|[ ]+(?:-., )?)--(?:\[no-\])?([a-z-]+)|`--([a-z-]+)`|\[also --([a-z-]+)", text, re.M)
    return {name for names in found for name in names if name}


@pytest.mark.scenario("moving.commands")
def test_options_of_python_are_options_here_under_the_same_names(python_help, pgqueuer):
    rows = {name: here for name, here in table().items() if here != NOT_YET}
    theirs = {name: options_of(text) - {"help"} for name, text in python_help("", *rows).items()}
    globally = theirs.pop("") - {"factory"}  # that one gives Python's commands another driver
    assert globally == {"prefix", "schema", "pg-dsn"}
    for name, here in rows.items():
        ours = options_of(re.sub(r"\s+(?=--pg-dsn\])", " ", pgqueuer("help", *here.split()).stdout))
        offline = {"pg-dsn"} if name.startswith("sql ") else set()
        assert theirs[name] | globally <= ours | offline, name
    named = options_of(GUIDE.read_text().split("Options keep their names")[1].split("\n\n")[0])
    assert globally.union(*theirs.values()) <= named, "the guide names them all"
