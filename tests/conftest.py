"""The fixtures of the Python tests.

Each pytest process (each xdist worker) has a PostgreSQL server of its own, and each test a database
of its own. The build under test is $PGQUEUER_BUILD, by default `build`; the virtual environment
with the Python release is $PGQUEUER_VENV, by default `.venv`.
"""

import itertools

import pytest

from lib import jobs as job_text
from lib import core, program, scenarios
from lib.cluster import Cluster
from lib.handlers import Handlers
from lib.journal import Journal

PYTHON_SCRIPTS = program.REPOSITORY / "tests" / "interop" / "py"
TEMPLATE = "pgqueuer_template"


def pytest_configure(config):
    scenarios.pytest_configure(config)


def pytest_generate_tests(metafunc):
    """A test of the core list runs once a way."""
    ways = core.ways_of(metafunc.function.__name__)
    if ways:
        metafunc.parametrize("way", ways, indirect=True)


def pytest_collection_modifyitems(items):
    for item in items:
        if core.ways_of(getattr(item, "originalname", "")):
            item.add_marker("core")


@pytest.fixture(scope="session")
def cluster():
    """The server of this pytest process."""
    server = Cluster()
    yield server
    server.destroy()


@pytest.fixture
def own_cluster():
    """A server for one test that may kill and restart it; fsync is on."""
    server = Cluster(durable=True)
    yield server
    server.destroy()


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """$HOME of the programs: empty, so that no file of the caller's counts."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def run_program(home):
    def run(*arguments, dsn=None, env=None, **options):
        program.require_program()
        environment = program.clean_environment(home, **(env or {}))
        if dsn is not None:
            environment["PGQUEUER_DSN"] = str(getattr(dsn, "dsn", dsn))
        return program.run([program.PROGRAM, *map(_argument, arguments)], environment, **options)

    return run


def _argument(argument):
    return argument if isinstance(argument, bytes) else str(argument)


@pytest.fixture
def pgqueuer(run_program):
    """`pgqueuer(*arguments, dsn=None, env=None, stdin=None, timeout=30)` runs the program to its
    end. `dsn` (a text or a database) goes into PGQUEUER_DSN."""
    return run_program


@pytest.fixture(scope="session")
def queue_template(cluster, run_program):
    """A database with the schema that the program installs, to make copies of."""
    cluster.admin(f"CREATE DATABASE {TEMPLATE}")
    done = run_program("install", dsn=cluster.dsn(TEMPLATE))
    assert done.returncode == 0, done.stderr
    return TEMPLATE


@pytest.fixture
def db(cluster):
    """An empty database."""
    database = cluster.create_database()
    yield database
    cluster.drop_database(database)


@pytest.fixture
def queue_db(cluster, queue_template):
    """A database with the schema installed."""
    database = cluster.create_database(queue_template)
    yield database
    cluster.drop_database(database)


@pytest.fixture
def own_queue_db(own_cluster, run_program):
    """A database with the schema on a server of the test's own."""
    database = own_cluster.create_database()
    done = run_program("install", dsn=database)
    assert done.returncode == 0, done.stderr
    return database


@pytest.fixture(scope="session")
def handlers(tmp_path_factory):
    """The shared objects and programs of tests/handlers, built once."""
    program.require_program()
    return Handlers(tmp_path_factory.mktemp("handlers"))


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journal")


@pytest.fixture
def processes(tmp_path):
    """Starts processes that end with the test: `processes(arguments, environment)`."""
    started = []
    numbers = itertools.count(1)

    def start(arguments, environment, kind=program.Process, **options):
        process = kind(arguments, environment, tmp_path / f"process-{next(numbers)}.log", **options)
        started.append(process)
        return process

    yield start
    failures = []
    for process in started:
        try:
            process.close()
            # pytest shows it when the test failed.
            print(f"--- {' '.join(process.arguments)}: {process.returncode}\n{process.log()[-20_000:]}")
        except AssertionError as failure:
            failures.append(str(failure))
    assert not failures, "\n".join(failures)


@pytest.fixture
def way(request, processes):
    """How the test's workers go: as they go by default, or as the core list says."""
    return core.Way(getattr(request, "param", "default"), processes)


@pytest.fixture
def spawn_worker(processes, home, handlers, journal, way):
    """`spawn_worker(database, *options, args=…, factory=…)` starts `pgqueuer run` and waits until
    it listens. By default the factory is the journal's, writing to the test's journal; `args` are
    then further arguments of it."""

    def spawn(database, *options, args=(), factory=None, env=None, wait=True, **popen):
        program.require_program()
        if factory is None:
            factory, args = f"{handlers['journal']}:factory", [journal, *args]
        environment = program.clean_environment(
            home, PGQUEUER_DSN=way.dsn(database), **way.environment, **(env or {})
        )
        worker = processes(
            [program.PROGRAM, "run", factory, *options, "--", *args], environment,
            kind=program.Worker, **popen,
        )
        return worker.wait_listening() if wait else worker

    return spawn


@pytest.fixture
def drain(spawn_worker):
    """Runs a worker until the queue is empty, and returns it. As spawn_worker."""

    def run(database, *options, deadline=60, **arguments):
        worker = spawn_worker(database, "--mode", "drain", *options, wait=False, **arguments)
        status = worker.wait(deadline)
        assert status == 0, f"exit status {status}:\n{worker.log()}"
        return worker

    return run


@pytest.fixture
def produce(handlers, home):
    """`produce(database, jobs, on_conflict="raise", batch=1000, transaction=None, log_policy="")`
    enqueues with the C library and returns the ids (0: left out). `check=False` returns the finished
    process."""

    def run(database, jobs, on_conflict="raise", batch=1000, transaction="none", check=True,
            log_policy="", **options):
        done = program.run(
            [handlers["prog_produce"], database.dsn, on_conflict, str(batch), transaction],
            program.clean_environment(home, LOG_POLICY=log_policy), stdin=job_text.encode(jobs),
            **options,
        )
        if not check:
            return done
        assert done.returncode == 0, done.stderr
        return [int(line) for line in done.stdout.split()]

    return run


def _python_environment(home, database, **extra):
    return program.clean_environment(
        home, PGDSN=getattr(database, "dsn", database), PYTHONDONTWRITEBYTECODE=1,
        PYTHONUNBUFFERED=1, **extra,
    )


@pytest.fixture
def python_pgq(home):
    """`python_pgq(database, *arguments)` runs the command line of the Python release."""

    def run(database, *arguments, **options):
        return program.run([program.python_bin() / "pgq", *map(str, arguments)],
                           _python_environment(home, database), **options)

    return run


@pytest.fixture
def python_run(home):
    """`python_run(database, script, *arguments)` runs a script of tests/interop/py to its end."""

    def run(database, script, *arguments, check=True, **options):
        done = program.run(
            [program.python_bin() / "python", PYTHON_SCRIPTS / script, *map(str, arguments)],
            _python_environment(home, database), **options,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def python_spawn(processes, home):
    """`python_spawn(database, script, *arguments, ready=pattern)` starts a script of
    tests/interop/py and waits for its ready line."""

    def spawn(database, script, *arguments, ready=None, **options):
        process = processes(
            [program.python_bin() / "python", PYTHON_SCRIPTS / script, *arguments],
            _python_environment(home, database), **options,
        )
        if ready:
            process.wait_log(ready, 30)
        return process

    return spawn


@pytest.fixture
def python_worker(python_spawn, journal):
    """`python_worker(database, *options, entrypoints=…)` starts a Python worker that writes to the
    test's journal, and waits until its LISTEN is in effect."""

    def spawn(database, *options, entrypoints=(), wait=True):
        return python_spawn(database, "py_worker.py", "--journal", journal, *options, "--",
                            *entrypoints, ready=r"^LISTENING " if wait else None)

    return spawn


@pytest.fixture
def python_enqueue(python_run):
    """`python_enqueue(database, jobs, on_conflict="raise", batch=1000)` enqueues with the Python
    release and returns the ids (0: left out)."""

    def run(database, jobs, on_conflict="raise", batch=1000, **options):
        done = python_run(database, "py_enqueue.py", "--on-conflict", on_conflict, "--batch", batch,
                          stdin=job_text.encode(jobs), **options)
        return [int(line) for line in done.stdout.split()] if done.returncode == 0 else done

    return run
