"""The roles of docs/guide/permissions.md: each does its work with the rights that stand there, and not
with one of them less. PUBLIC has none on the schema, so that none is had by chance."""

import re
import types

import psycopg
import pytest

from lib import program
from lib.jobs import NewJob
from lib.refusal import CONFLICT, DONE, FAILED, SCHEMA
from lib.schema import PRESENT, dump, psql
from lib.upgrade import assert_up_to_date, fill, restore
from lib.waiting import wait_until

GUIDE = program.REPOSITORY / "docs" / "guide" / "permissions.md"
CALL = "SELECT pgqueuer_c.enqueue('alpha', 'one', dedupe_key => %s, on_conflict => %s)"


def blocks():
    """The statements of each role's block, by the role."""
    found = {}
    for block in re.findall(r"^```sql\n(.*?)^```$", GUIDE.read_text(), re.M | re.S):
        role = re.match(r"CREATE ROLE queue_(\w+) LOGIN;", block)[1]
        found[role] = re.findall(r"^GRANT .*?;$", block, re.M)
    return found


ROLES = blocks()


class Queue:
    """An installation of the admin's, and who may do what there; in the schema public, or by other names."""

    def __init__(self, database, pgqueuer, schema=None, prefix=""):
        self.database, self.schema, self.prefix = database, schema, prefix
        names = [*(["--schema", schema] if schema else []), *(["--prefix", prefix] if prefix else [])]
        self.names = names
        self.pgqueuer = lambda *arguments, **options: pgqueuer(*arguments, *names, **options)
        for role in ROLES:
            database.execute(f"DROP ROLE IF EXISTS queue_{role}; CREATE ROLE queue_{role} LOGIN")
        database.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")

    def dsn(self, role):
        return self.database.cluster.dsn(self.database.name, f"queue_{role}")

    def as_role(self, role):
        """As far as a database is needed to spawn a worker."""
        return types.SimpleNamespace(dsn=self.dsn(role))

    def grant(self, role, without=None):
        for statement in ROLES[role]:
            if statement != without:
                self.database.execute(self.by_name(statement))

    def by_name(self, statement):
        """As the guide says what the statements are with other names."""
        statement = statement.replace("DATABASE shop", f"DATABASE {self.database.name}")
        schema = f'"{self.schema}"' if self.schema else "public"
        where = f"{schema}." if self.schema else ""
        statement = re.sub(r"\b(pgqueuer(_log|_statistics|_schedules|)(_id_seq)?)\b", rf"{where}{self.prefix}\1",
                           statement)
        extras = "".join(f"_{name}" for name in (self.schema, self.prefix) if name)
        return statement.replace("pgqueuer_c", f"pgqueuer_c{extras}").replace(
            "SCHEMA public", f"SCHEMA {schema}")

    def install(self):
        # a schema that is not there yet becomes the admin's own
        self.grant("admin", without=None if self.schema is None else "GRANT USAGE, CREATE ON SCHEMA public"
                   " TO queue_admin;")
        done = self.pgqueuer("install", "--extras", dsn=self.dsn("admin"))
        assert done.returncode == DONE, done.stderr
        return self

    def call(self, key, on_conflict="raise"):
        with psycopg.connect(self.dsn("producer"), autocommit=True) as connection:
            return connection.execute(CALL, [key, on_conflict]).fetchone()[0]

    def hold(self, job_id):
        self.database.execute(f"UPDATE pgqueuer SET status = 'failed' WHERE id = {job_id}")


@pytest.fixture
def queue_named(db, pgqueuer):
    """`queue_named(schema, prefix)`: once a test."""
    yield lambda *names: Queue(db, pgqueuer, *names)
    db.cluster.drop_database(db)
    for role in ROLES:
        db.cluster.admin(f"DROP ROLE IF EXISTS queue_{role}")


@pytest.fixture
def queue(queue_named):
    return queue_named()


@pytest.fixture
def work(processes, home, handlers, journal):
    """A worker of the role that drains the queue; the log of one that has ended."""

    def run(queue, *options):
        worker = processes(
            [program.PROGRAM, "run", f"{handlers['journal']}:factory", "--mode", "drain",
             "--log-aggregation-interval", "0.05", *queue.names, *options, "--", journal, "alpha=ok", "fail"],
            program.clean_environment(home, PGQUEUER_DSN=queue.dsn("worker")), kind=program.Worker)
        return worker.wait(60), worker.log()

    return run


def without_each(role):
    return pytest.mark.parametrize("without", ROLES[role], ids=lambda grant: grant[6:-1].split(" TO ")[0])


def test_the_guide_has_the_roles():
    assert list(ROLES) == ["admin", "producer", "direct", "importer", "worker", "reader"]
    assert all(grant.endswith(f"TO queue_{role};") for role, grants in ROLES.items() for grant in grants)


# -- with them ---------------------------------------------------------------------------------------


def test_the_admin_installs_verifies_changes_and_uninstalls(queue):
    queue.install()
    for command in (["verify", "--expect", "present"], ["autovac"], ["durability", "balanced"],
                    ["install", "--extras"], ["uninstall"], ["verify", "--expect", "absent"]):
        done = queue.pgqueuer(*command, dsn=queue.dsn("admin"))
        assert done.returncode == DONE, (command, done.stdout, done.stderr)


def test_the_producer_calls_the_functions(queue):
    queue.install().grant("producer")
    first = queue.call("k")
    assert queue.call("k", "skip") is None and queue.call("k", "update_priority") == first
    assert queue.database.log_counts() == {"queued": 1}


def test_the_direct_producer_enqueues_in_every_way(queue):
    queue.install().grant("direct")
    for options in ([], ["--on-conflict", "skip"], ["--on-conflict", "update_priority"],
                    ["--log-policy", "failures"], ["--count", "20"]):
        key = ["--dedupe-key", "k" + " ".join(options)] if "--count" not in options else []
        done = queue.pgqueuer("queue", "alpha", "one", *options, *key, dsn=queue.dsn("direct"))
        assert done.returncode == DONE, done.stderr
    assert queue.database.job_count() == 24


@pytest.mark.parametrize("lane", ["row", "lease"])
@pytest.mark.parametrize("policy", ["full", "terminal", "failures"])
def test_the_worker_runs_in_both_lanes_and_counts(queue, produce, work, lane, policy):
    queue.install().grant("worker")
    produce(queue.database, [NewJob("alpha", b"")] * 20 + [NewJob("fail", b"")])
    status, log = work(queue, "--lane", lane, "--log-policy", policy)
    assert status == DONE, log
    assert "denied" not in log and "extras.missing" not in log, log
    assert queue.database.job_count() == 0
    assert queue.database.value("SELECT sum(count) FROM pgqueuer_statistics WHERE status = 'successful'") == 20


@pytest.mark.parametrize("without", [None, *(grant for grant in ROLES["worker"] if "pgqueuer_c" in grant)],
                         ids=lambda grant: grant and grant[6:-1].split(" TO ")[0])
def test_the_worker_tells_others_how_far_it_has_claimed(queue, without):
    """What durability does to the table takes no right away."""
    queue.install().grant("worker", without)
    assert queue.pgqueuer("durability", "balanced", dsn=queue.dsn("admin")).returncode == DONE
    tell = "SELECT setval('pgqueuer_c.claims_front_seq', last_value + 7) FROM pgqueuer_c.claims_front_seq"
    with psycopg.connect(queue.dsn("worker"), autocommit=True) as connection:
        if without is None or "counts" in without:
            assert connection.execute(tell).fetchone() == (8,)
        else:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(tell)


def test_the_worker_takes_over_holds_and_releases(queue, produce, spawn_worker, journal, handlers):
    """A job of a worker that is gone, a job that is held, and one that a supervised process has."""
    queue.install().grant("worker")
    produce(queue.database, [NewJob("hold", b""), NewJob("ok", b"")])
    queue.database.execute("UPDATE pgqueuer SET status = 'picked', queue_manager_id = gen_random_uuid(),"
                           " heartbeat = now() - interval '1 hour' WHERE entrypoint = 'ok'")
    worker = spawn_worker(queue.as_role("worker"), "--restart-on-failure", args=["hold", "ok"], wait=False)
    wait_until(lambda: queue.database.job_count("status = 'failed'") == 1 == queue.database.job_count(), 30,
               "one is held and one is done")
    assert worker.stop() == DONE, worker.log()
    assert "denied" not in worker.log()


def test_the_worker_requeues_and_cancels(queue, produce):
    queue.install().grant("worker")
    [first, second] = produce(queue.database, [NewJob("alpha", b"")] * 2)
    queue.hold(first)
    for command in (["requeue", first], ["cancel", second]):
        done = queue.pgqueuer(*command, dsn=queue.dsn("worker"))
        assert done.returncode == DONE, done.stderr
    assert queue.database.job(first)["status"] == "queued"
    assert queue.database.log_of(second) == ["queued", "canceled"]


def test_the_reader_reads_and_verifies_and_cannot_do_more(queue):
    queue.install().grant("reader")
    done = queue.pgqueuer("verify", "--expect", "present", dsn=queue.dsn("reader"))
    assert done.returncode == DONE and done.stdout.strip() == PRESENT, done.stdout + done.stderr
    with psycopg.connect(queue.dsn("reader"), autocommit=True) as connection:
        for table in ("pgqueuer", "pgqueuer_log", "pgqueuer_statistics", "pgqueuer_schedules"):
            connection.execute(f"SELECT FROM {table}")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"DELETE FROM {table}")


def test_verify_needs_no_right_but_on_the_schema(queue):
    queue.install()
    verify = ("verify", "--expect", "present")
    done = queue.pgqueuer(*verify, dsn=queue.dsn("reader"))
    assert done.returncode == FAILED and "no schema of the connection's search_path" in done.stderr
    queue.database.execute("GRANT USAGE ON SCHEMA public TO queue_reader")
    done = queue.pgqueuer(*verify, dsn=queue.dsn("reader"))
    assert done.returncode == DONE and done.stdout.strip() == PRESENT, done.stdout + done.stderr


OTHER_NAMES = [(None, "x_"), ("group", "order_")]


@pytest.mark.parametrize("names", OTHER_NAMES, ids=lambda names: "-".join(filter(None, names)))
def test_every_role_does_its_work_in_an_installation_of_other_names(queue_named, work, tmp_path, names):
    queue = queue_named(*names)
    queue.install()
    for role in ("producer", "direct", "importer", "worker", "reader"):
        queue.grant(role)
    (tmp_path / "jobs.jsonl").write_text('{"entrypoint": "alpha", "payload": "imported"}\n' * 3)
    for role, *command in (
        ("direct", "queue", "alpha", "one", "--dedupe-key", "k", "--on-conflict", "update_priority"),
        ("importer", "import", tmp_path / "jobs.jsonl"),
        ("reader", "verify", "--expect", "present"), ("reader", "upgrade", "--plan"),
        ("admin", "upgrade"), ("admin", "autovac"),
    ):
        done = queue.pgqueuer(*command, dsn=queue.dsn(role))
        assert done.returncode == DONE, (command, done.stdout, done.stderr)
    with psycopg.connect(queue.dsn("producer"), autocommit=True) as connection:
        connection.execute(queue.by_name(CALL), ["k2", "raise"])
    status, log = work(queue, "--log-policy", "failures")
    assert status == DONE and "denied" not in log and "extras.missing" not in log, log
    table = queue.by_name("SELECT count(*) FROM pgqueuer")
    assert queue.database.value(table) == 0
    done = queue.pgqueuer("uninstall", dsn=queue.dsn("admin"))
    assert done.returncode == DONE, done.stderr


def test_the_importer_imports_and_remembers(queue, tmp_path):
    queue.install()
    queue.grant("direct")
    queue.grant("importer")
    (tmp_path / "jobs.jsonl").write_text('{"entrypoint": "alpha"}\n' * 3000)
    done = queue.pgqueuer("import", tmp_path / "jobs.jsonl", dsn=queue.dsn("importer"))
    assert done.returncode == DONE, done.stderr
    again = queue.pgqueuer("import", tmp_path / "jobs.jsonl", dsn=queue.dsn("importer"))
    assert again.returncode == CONFLICT, again.stderr
    assert queue.database.job_count() == 3000


@pytest.fixture
def old_queue(queue):
    """Tables that the admin has made with Python's release 1.1.0, in use by the others. Its right on the
    database has been taken back."""
    admin = types.SimpleNamespace(dsn=queue.dsn("admin"), cluster=queue.database.cluster)
    queue.database.execute("GRANT USAGE, CREATE ON SCHEMA public TO queue_admin")
    restore(admin, "1.1.0")
    fill(queue.database, 20)
    for role in ("direct", "worker", "reader"):
        for statement in ROLES[role]:
            if "pgqueuer_c" not in statement:
                queue.database.execute(statement)
    return queue


@pytest.mark.parametrize("way", ["program", "script"])
def test_the_admin_upgrades_and_the_others_go_on_with_the_rights_that_they_had(old_queue, produce, work, way):
    if way == "program":
        for command in (["upgrade", "--plan"], ["upgrade"]):
            done = old_queue.pgqueuer(*command, dsn=old_queue.dsn("admin"))
            assert done.returncode == DONE, (command, done.stderr)
    else:
        text = old_queue.pgqueuer("sql", "upgrade").stdout
        psql(types.SimpleNamespace(dsn=old_queue.dsn("admin"), cluster=old_queue.database.cluster), text=text)
    done = old_queue.pgqueuer("verify", "--expect", "present", dsn=old_queue.dsn("reader"))
    assert done.returncode == DONE, done.stdout
    done = old_queue.pgqueuer("queue", "alpha", dsn=old_queue.dsn("direct"))
    assert done.returncode == DONE, done.stderr
    status, log = work(old_queue)
    assert status == DONE and "denied" not in log, log
    assert old_queue.database.job_count("entrypoint = 'alpha'") == 0


@pytest.mark.parametrize("more, words", [
    ("", "may not create objects in the schema 'public'"),
    ("GRANT CREATE ON SCHEMA public TO queue_worker", "must be owner of"),
])
def test_an_upgrade_by_another_role_is_refused_and_changes_nothing(old_queue, more, words):
    old_queue.database.execute(more or "SELECT")
    before = dump(old_queue.database)
    done = old_queue.pgqueuer("upgrade", dsn=old_queue.dsn("worker"))
    assert done.returncode == FAILED and words in done.stderr, done.stderr
    assert re.search("hint: .*owne?(r|s)", done.stderr), done.stderr
    assert dump(old_queue.database) == before


def test_an_upgrade_without_the_right_to_create_in_the_schema_says_so_before_it_does_anything(old_queue):
    old_queue.database.execute("REVOKE CREATE ON SCHEMA public FROM queue_admin")
    before = dump(old_queue.database)
    assert_denied(old_queue.pgqueuer("upgrade", dsn=old_queue.dsn("admin")))
    assert dump(old_queue.database) == before
    old_queue.database.execute("GRANT CREATE ON SCHEMA public TO queue_admin")
    done = old_queue.pgqueuer("upgrade", dsn=old_queue.dsn("admin"))
    assert done.returncode == DONE, done.stderr
    assert_up_to_date(old_queue.database)


# -- with one of them less ---------------------------------------------------------------------------


def assert_denied(done):
    assert done.returncode not in (DONE, None), done.stdout
    assert "permission denied for" in done.stderr or "may not create" in done.stderr, done.stderr
    assert done.stderr.startswith("pgqueuer: error: ") and "\n  hint: " in done.stderr, done.stderr


@without_each("admin")
def test_without_a_right_the_admin_cannot_install(queue, without):
    queue.grant("admin", without)
    done = queue.pgqueuer("install", "--extras", dsn=queue.dsn("admin"))
    if "ON SCHEMA public" in without:  # the schema does not count then, nor does the search_path
        assert done.returncode == FAILED and "no schema of the connection's search_path" in done.stderr
    else:
        assert_denied(done)
    assert queue.database.value("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'pgqueuer%'") == 0


@without_each("producer")
def test_without_a_right_the_producer_is_refused(queue, without):
    queue.install().grant("producer", without)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for (schema|function)"):
        queue.call("k")
    assert queue.database.job_count() == 0


@without_each("direct")
def test_without_a_right_the_direct_producer_is_refused(queue, without):
    queue.install().grant("direct", without)
    done = queue.pgqueuer("queue", "alpha", "--dedupe-key", "k", "--on-conflict", "update_priority",
                          dsn=queue.dsn("direct"))
    if "ON SCHEMA" in without:  # as if nothing were there
        assert done.returncode != DONE and "does not exist" in done.stderr, done.stderr
        assert "that the role has USAGE on the schema" in done.stderr
    else:
        assert_denied(done)
    assert queue.database.job_count() == 0


@without_each("importer")
def test_without_a_right_the_importer_is_refused_or_says_that_it_cannot_remember(queue, tmp_path, without):
    queue.install()
    queue.grant("direct")
    queue.grant("importer", without)
    (tmp_path / "jobs.jsonl").write_text('{"entrypoint": "alpha"}\n')
    done = queue.pgqueuer("import", tmp_path / "jobs.jsonl", dsn=queue.dsn("importer"))
    if "queue_direct" in without:
        assert done.returncode != DONE and queue.database.job_count() == 0, done.stderr
    else:
        assert done.returncode == DONE and "first line" in done.stderr, done.stderr
        assert queue.database.job_count() == 1


@without_each("worker")
def test_without_a_right_the_worker_says_what_it_lacks(queue, produce, work, without):
    queue.install().grant("worker", without)
    produce(queue.database, [NewJob("alpha", b"")] * 3)
    status, log = work(queue, "--log-policy", "failures")
    if "claims_front_seq" in without:  # nothing depends on it
        assert status == DONE and "extras.missing" not in log and "denied" not in log, log
        assert queue.database.job_count() == 0
    elif "pgqueuer_c" in without:
        assert status == DONE and "extras.missing" in log and "may not use them" in log, log
        assert queue.database.job_count() == 0
    elif "SCHEMA public" in without:
        assert status == SCHEMA and "that the role has USAGE on the schema" in log, log
    else:
        assert "permission denied for" in log, log


@pytest.mark.parametrize("command", ["requeue", "cancel"])
def test_a_reader_cannot_act_on_jobs(queue, produce, command):
    queue.install().grant("reader")
    [job_id] = produce(queue.database, [NewJob("alpha", b"")])
    before = queue.database.job(job_id)
    assert_denied(queue.pgqueuer(command, job_id, dsn=queue.dsn("reader")))
    assert queue.database.job(job_id) == before


def test_a_reader_cannot_enqueue(queue):
    queue.install().grant("reader")
    assert_denied(queue.pgqueuer("queue", "alpha", dsn=queue.dsn("reader")))
