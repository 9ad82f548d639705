"""The schema commands of both sides on one database: what one has made, the other one is content with."""

import pytest

from lib.schema import VARIANTS, dump, installed, verify
from lib.upgrade import upgraded

CURRENT = "PgQueuer schema is already up to date."


@pytest.mark.scenario("catalogue.python-content-with-ours")
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_python_release_finds_nothing_to_do_but_its_function(pgqueuer, python_pgq, db, variant):
    global_options, options = VARIANTS[variant]
    assert pgqueuer(*global_options, "install", *options, dsn=db).returncode == 0
    done = python_pgq(db, *global_options, "verify", "--expect", "present")
    assert done.returncode == 0, done.stdout
    plan = python_pgq(db, *global_options, "upgrade", "--plan")
    assert plan.returncode == 0, plan.stderr
    assert "Would apply 1 statement." in plan.stderr
    statement = "\n".join(
        line for line in plan.stdout.splitlines() if not line.startswith("--")
    ).strip()
    assert statement.startswith("CREATE OR REPLACE FUNCTION ")
    assert statement.count("CREATE ") == 1


@pytest.mark.scenario("catalogue.ours-content-with-python")
@pytest.mark.parametrize("variant", ["default", "prefix", "schema"])
def test_an_installation_of_the_python_release_is_complete(pgqueuer, python_pgq, db, variant):
    global_options, _ = VARIANTS[variant]
    assert python_pgq(db, *global_options, "install").returncode == 0
    assert verify(pgqueuer, db, "present", *global_options) == []
    before = dump(db)
    assert upgraded(pgqueuer, db, *global_options).stderr.strip() == CURRENT
    assert pgqueuer(*global_options, "install", dsn=db).returncode == 1
    assert dump(db) == before
    assert pgqueuer(*global_options, "uninstall", dsn=db).returncode == 0
    assert python_pgq(db, *global_options, "verify", "--expect", "absent").returncode == 0


@pytest.mark.scenario("catalogue.uninstall-by-python")
def test_the_python_release_removes_our_installation(pgqueuer, python_pgq, db):
    installed(pgqueuer, db)
    assert python_pgq(db, "uninstall").returncode == 0
    assert dump(db) == []
