"""An upgrade beside others who hold locks: it waits without keeping the queue waiting."""

import json
import time

import pytest

from lib import program
from lib.cluster import Cluster
from lib.leases import insert
from lib.pooler import Pooler
from lib.schema import LOCK_KEY, psql
from lib.upgrade import assert_up_to_date, upgraded
from lib.waiting import wait_until

@pytest.fixture
def spawn_upgrade(processes, home):
    def spawn(database, *options):
        environment = program.clean_environment(home, PGQUEUER_DSN=database.dsn)
        return processes([program.PROGRAM, "upgrade", *options], environment)

    return spawn


def test_an_upgrade_gives_way_to_an_idle_transaction_and_names_it_while_the_queue_keeps_moving(
    queue_db, spawn_worker, spawn_upgrade, journal
):
    spawn_worker(queue_db, "--lane", "row", args=["ok"])
    queue_db.execute("DROP INDEX pgqueuer_picked_heartbeat_idx;"
                     "ALTER TABLE pgqueuer ALTER priority SET DEFAULT 7")
    with queue_db.connect(autocommit=False, application_name="the forgotten one") as holder:
        holder.execute("SELECT FROM pgqueuer")
        upgrade = spawn_upgrade(queue_db, "--lock-timeout", "0.2")
        upgrade.wait_log(f"waiting for pid {holder.info.backend_pid} "
                         r"\(postgres, the forgotten one, idle in transaction\), in a transaction"
                         r" since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
        upgrade.wait_log(r"(?s)(trying again.*){3}", 30)
        longest = 0
        with queue_db.connect() as producer:
            for _ in range(30):
                begin = time.monotonic()
                insert(producer, "ok")
                longest = max(longest, time.monotonic() - begin)
        journal.wait_runs(30)
        print(f"longest enqueue beside the upgrade: {longest:.2f} s")
        assert longest < 1
        assert upgrade.returncode is None
        holder.rollback()
    assert upgrade.wait(30) == 0, upgrade.log()
    assert_up_to_date(queue_db)


def test_an_upgrade_whose_patience_ends_says_who_was_in_the_way_and_can_be_run_again(
    pgqueuer, queue_db
):
    queue_db.execute("DROP INDEX pgqueuer_log_created; ALTER TABLE pgqueuer DROP COLUMN slot")
    with queue_db.connect(autocommit=False) as holder:
        holder.execute("SELECT FROM pgqueuer")
        done = pgqueuer("upgrade", "--lock-timeout", "0.3", "--patience", "1", dsn=queue_db)
        assert done.returncode == 8
        assert f"in the way: pid {holder.info.backend_pid} " in done.stderr
        assert "add column pgqueuer.slot" in done.stderr
        assert queue_db.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
    upgraded(pgqueuer, queue_db)
    assert_up_to_date(queue_db)


def test_building_an_index_waits_for_a_writer_and_keeps_nobody_waiting(queue_db, spawn_upgrade):
    queue_db.execute("DROP INDEX pgqueuer_ep_ea_idx")
    insert = "INSERT INTO pgqueuer (priority, status, entrypoint) VALUES (0, 'queued', 'a')"
    with queue_db.connect(autocommit=False) as holder:
        holder.execute(insert)
        upgrade = spawn_upgrade(queue_db, "--lock-timeout", "0.2")
        upgrade.wait_log(f"build index .*waiting for pid {holder.info.backend_pid} ")
        with queue_db.connect() as other:
            other.execute("SET lock_timeout = 100")
            for _ in range(5):
                other.execute(insert)
                other.execute("UPDATE pgqueuer SET status = 'picked' WHERE status = 'queued'")
        assert "trying again" not in upgrade.log()
        holder.commit()
    assert upgrade.wait(30) == 0, upgrade.log()
    assert_up_to_date(queue_db)


def test_an_index_that_could_not_be_built_in_time_is_not_left_behind(pgqueuer, queue_db):
    queue_db.execute("DROP INDEX pgqueuer_ep_ea_idx")
    with queue_db.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE pgqueuer IN ROW EXCLUSIVE MODE")
        done = pgqueuer("upgrade", "--patience", "1", dsn=queue_db)
        assert done.returncode == 8
        assert f"in the way: pid {holder.info.backend_pid} " in done.stderr
    upgraded(pgqueuer, queue_db)
    assert_up_to_date(queue_db)


@pytest.fixture
def vacuuming_db(run_program):
    """A queue that the server vacuums all the time, and slowly."""
    server = Cluster(settings={"autovacuum_naptime": "1s"})
    database = server.create_database()
    assert run_program("install", dsn=database).returncode == 0
    database.execute(
        "ALTER TABLE pgqueuer SET (autovacuum_vacuum_cost_delay = 100,"
        " autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_threshold = 1,"
        " autovacuum_vacuum_scale_factor = 0);"
        "INSERT INTO pgqueuer (priority, status, entrypoint) SELECT 0, 'queued', 'a'"
        " FROM generate_series(1, 20000); DELETE FROM pgqueuer"
    )
    yield database
    server.destroy()


def test_an_autovacuum_in_the_way_is_ended_by_the_server_though_locks_are_tried_for_short(
    pgqueuer, vacuuming_db
):
    vacuuming_db.execute("ALTER TABLE pgqueuer DROP COLUMN slot")
    working = ("SELECT pid FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'"
               " AND query LIKE '%%public.pgqueuer'")
    wait_until(lambda: vacuuming_db.value(working), 30, "the server vacuums the queue")
    done = upgraded(pgqueuer, vacuuming_db, "--lock-timeout", "0.4", timeout=60)
    assert "(autovacuum worker" in done.stderr
    assert_up_to_date_but_settings(vacuuming_db)


def assert_up_to_date_but_settings(db):
    db.execute("ALTER TABLE pgqueuer RESET (autovacuum_vacuum_cost_delay,"
               " autovacuum_vacuum_cost_limit, autovacuum_vacuum_threshold,"
               " autovacuum_vacuum_scale_factor)")
    assert_up_to_date(db)


def waits_for_advisory_lock(db):
    return db.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")


@pytest.mark.scenario("upgrade.lock")
def test_an_upgrade_waits_for_whoever_has_the_advisory_lock_and_names_it(queue_db, spawn_upgrade):
    queue_db.execute("DROP INDEX pgqueuer_ep_ea_idx")
    with queue_db.connect(application_name="another upgrade") as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        upgrade = spawn_upgrade(queue_db)
        upgrade.wait_log(f"waiting for pid {holder.info.backend_pid} .another upgrade.")
        assert queue_db.value("SELECT to_regclass('pgqueuer_ep_ea_idx')") is None
    assert upgrade.wait(30) == 0, upgrade.log()
    assert_up_to_date(queue_db)


def test_eight_upgrades_at_once_are_one(queue_db, spawn_upgrade):
    queue_db.execute("DROP INDEX pgqueuer_ep_ea_idx, pgqueuer_log_status;"
                     "ALTER TABLE pgqueuer DROP COLUMN slot")
    upgrades = [spawn_upgrade(queue_db) for _ in range(8)]
    for upgrade in upgrades:
        assert upgrade.wait(60) == 0, upgrade.log()
    assert sum("Applied" in upgrade.log() for upgrade in upgrades) == 1
    assert_up_to_date(queue_db)


def test_who_waits_for_the_lock_inside_a_statement_goes_first(queue_db, spawn_upgrade):
    """As the Python release waits. Building an index would wait for that statement's end, for ever."""
    queue_db.execute("DROP INDEX pgqueuer_ep_ea_idx, pgqueuer_log_status")
    with queue_db.connect(autocommit=False) as writer, queue_db.connect() as other:
        writer.execute("LOCK TABLE pgqueuer IN ROW EXCLUSIVE MODE")
        upgrade = spawn_upgrade(queue_db)
        upgrade.wait_log(f"build index .*waiting for pid {writer.info.backend_pid} ")
        other.execute("SET deadlock_timeout = '60s'")
        lock = other.pgconn
        lock.send_query(f"SELECT pg_advisory_lock({LOCK_KEY})".encode())
        wait_until(lambda: waits_for_advisory_lock(queue_db) == 1, 10, "the other one waits")
        writer.rollback()
        upgrade.wait_log("letting another installation or upgrade go first", 30)
        while lock.get_result():
            pass
        other.execute("SELECT pg_advisory_unlock_all()")
        assert upgrade.wait(30) == 0, upgrade.log()
    assert_up_to_date(queue_db)


def test_a_plan_says_what_is_locked_and_why_and_changes_nothing(pgqueuer, queue_db):
    queue_db.execute(
        "INSERT INTO pgqueuer (priority, status, entrypoint) SELECT 0, 'queued', 'a'"
        " FROM generate_series(1, 1000); ANALYZE pgqueuer;"
        "ALTER TABLE pgqueuer ALTER id TYPE int; ALTER TABLE pgqueuer DROP COLUMN slot"
    )
    queue_db.execute("ANALYZE pgqueuer")
    with queue_db.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])  # it takes no lock
        done = upgraded(pgqueuer, queue_db, "--plan", "--json")
        script = upgraded(pgqueuer, queue_db, "--plan").stdout
    assert done.stderr.strip() == "Would take 3 steps."
    steps = json.loads(done.stdout)["steps"]
    assert steps[0] == {
        "what": "widen column pgqueuer.id to bigint, add column pgqueuer.slot",
        "why": "an older release had other columns; at once, for the workers that go on",
        "sql": 'BEGIN;\nALTER TABLE "public"."pgqueuer" ALTER COLUMN id TYPE bigint;\n'
               'ALTER TABLE "public"."pgqueuer" ADD COLUMN IF NOT EXISTS slot bigint;\nCOMMIT;',
        "table": "pgqueuer", "lock": "ACCESS EXCLUSIVE", "rewrites": True, "rows": 1000,
    }
    assert [(step["what"], step["lock"], step["rewrites"]) for step in steps[1:]] == [
        ("build index pgqueuer_picked_slot_idx as pgq_rebuild_11423d72", "SHARE UPDATE EXCLUSIVE",
         False),
        ("rename index pgq_rebuild_11423d72 to pgqueuer_picked_slot_idx", "SHARE UPDATE EXCLUSIVE",
         False),
    ]
    for step in steps:
        assert f"{step['what']}: {step['why']}\n{step['sql']}\n" in script
    assert queue_db.value("SELECT atttypid::regtype::text FROM pg_attribute WHERE attname = 'id'"
                          " AND attrelid = 'pgqueuer'::regclass") == "integer"


def test_a_plan_is_a_script_that_does_what_the_upgrade_does(pgqueuer, queue_db):
    queue_db.execute("ALTER TABLE pgqueuer DROP COLUMN slot; DROP INDEX pgqueuer_ep_ea_idx;"
                     "CREATE INDEX pgqueuer_ep_ea_idx ON pgqueuer (id)")
    psql(queue_db, text=upgraded(pgqueuer, queue_db, "--plan").stdout)
    assert_up_to_date(queue_db)


def test_an_upgrade_through_a_pooler_is_refused(pgqueuer, queue_db, cluster, processes):
    queue_db.execute("DROP INDEX pgqueuer_ep_ea_idx")
    pooler = Pooler(cluster, processes)
    done = pgqueuer("upgrade", dsn=pooler.dsn(queue_db))
    assert done.returncode == 1
    assert "pooler" in done.stderr and "connect to the server itself" in done.stderr
    assert queue_db.value("SELECT to_regclass('pgqueuer_ep_ea_idx')") is None
