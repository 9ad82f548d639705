"""The functions of the extras, for producers in any language: the rows of our other producers, in the
caller's transaction, with no right but to call them."""

import base64
import json

import psycopg
import pytest

from lib.jobs import NewJob, varied_jobs
from lib.schema import installed, verify

FUNCTIONS = ("enqueue_arrays", "enqueue", "enqueue_many")
ROWS = ("SELECT id, priority, queue_manager_id, created = updated, created = heartbeat,"
        " execute_after - created, status::text, entrypoint, dedupe_key, payload, headers, attempts, slot"
        " FROM {queue} ORDER BY id")
LOG = "SELECT job_id, status::text, priority, entrypoint, traceback, aggregated FROM {log} ORDER BY id"


@pytest.fixture
def extras_db(queue_db, pgqueuer):
    done = pgqueuer("install", "--extras", dsn=queue_db)
    assert done.returncode == 0, done.stderr
    return queue_db


@pytest.fixture
def producer(extras_db):
    """A connection of a role that may call the functions, and nothing else."""
    extras_db.execute("CREATE ROLE sql_producer LOGIN; GRANT USAGE ON SCHEMA pgqueuer_c TO sql_producer;"
                      "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pgqueuer_c TO sql_producer")
    with psycopg.connect(extras_db.cluster.dsn(extras_db.name, "sql_producer"), autocommit=True) as made:
        yield made
    extras_db.execute("DROP OWNED BY sql_producer; DROP ROLE sql_producer")


def call(connection, *arguments, function="enqueue", **named):
    parts = ["%s"] * len(arguments) + [f"{name} => %({name})s" for name in named]
    if named:
        parts = [f"%(at{i})s" for i in range(len(arguments))] + parts[len(arguments):]
        values = {**{f"at{i}": value for i, value in enumerate(arguments)}, **named}
    else:
        values = arguments
    return connection.execute(f"SELECT pgqueuer_c.{function}({', '.join(parts)})", values).fetchone()[0]


def many(connection, jobs, **named):
    values = {"jobs": json.dumps(jobs), **named}
    parts = ", ".join(f"{name} => %({name})s" for name in values)
    return connection.execute(f"SELECT place, id FROM pgqueuer_c.enqueue_many({parts})", values).fetchall()


def as_json(job):
    return {"entrypoint": job.entrypoint, "priority": job.priority, "delay": job.delay_ms / 1000,
            "payload_base64": None if job.payload is None else base64.b64encode(job.payload).decode(),
            "dedupe_key": job.dedupe_key, "headers": job.headers and json.loads(job.headers)}


def stored(database):
    return (database.rows(ROWS.format(queue="pgqueuer")), database.rows(LOG.format(log="pgqueuer_log")))


def one_by_one(connection, jobs):
    for job in jobs:
        call(connection, job.entrypoint, priority=job.priority, payload_bytes=job.payload,
             delay=f"{job.delay_ms} ms", dedupe_key=job.dedupe_key, headers=job.headers)


def as_arrays(connection, jobs):
    call(connection, [job.entrypoint for job in jobs], [job.payload for job in jobs],
         [job.priority for job in jobs], [f"{job.delay_ms} ms" for job in jobs], None,
         [job.dedupe_key for job in jobs], [job.headers for job in jobs], function="enqueue_arrays")


# -- what is written ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [one_by_one, as_arrays,
                                 lambda connection, jobs: many(connection, list(map(as_json, jobs)))])
def test_the_rows_are_those_of_the_c_library(extras_db, producer, produce, cluster, queue_template, way):
    jobs = varied_jobs(40, seed=6, entrypoints=["alpha", "beta"])
    jobs += [NewJob("alpha", b"x", dedupe_key="k1", delay_ms=3_600_000), NewJob("\u00e9 \u4e2d '\"", b""),
             NewJob("alpha", None, priority=-7)]
    other = cluster.create_database(queue_template)
    produce(other, jobs)
    way(producer, jobs)
    assert stored(extras_db) == stored(other)
    cluster.drop_database(other)


def test_ids_come_back_in_the_order_of_the_jobs(extras_db, producer):
    names = [f"n{i}" for i in range(500)]
    ids = call(producer, names, function="enqueue_arrays")
    assert [extras_db.value("SELECT entrypoint FROM pgqueuer WHERE id = %s", [i]) for i in ids[::50]] == names[::50]
    rows = many(producer, [{"entrypoint": name} for name in names])
    assert [place for place, _ in rows] == list(range(500))
    assert [extras_db.value("SELECT entrypoint FROM pgqueuer WHERE id = %s", [i]) for _, i in rows[::50]] == names[::50]


def test_a_text_is_the_payload_as_it_is(extras_db, producer):
    text = 'back\\slash \\x41 \\001 {"a": "b\\n"} \u00e9\u4e2d'
    job = extras_db.job(call(producer, "alpha", text))
    assert job["payload"] == text.encode()
    [(_, other)] = many(producer, [{"entrypoint": "alpha", "payload": text}])
    assert extras_db.job(other)["payload"] == text.encode()


def test_null_stands_for_the_default(extras_db, producer):
    job = extras_db.job(call(producer, "alpha", None, None, None, None, None, None, None, None, None))
    assert (job["priority"], job["payload"], job["headers"], job["dedupe_key"]) == (0, None, None, None)
    assert job["execute_after"] == job["created"]
    assert extras_db.log_counts() == {"queued": 1}
    assert extras_db.job(call(producer, "alpha", headers="null"))["headers"] is None


def test_it_is_the_callers_transaction(extras_db, producer):
    with producer.transaction(force_rollback=True):
        call(producer, "alpha", "1")
        assert extras_db.job_count() == 0
    assert extras_db.job_count() == 0 and extras_db.log_counts() == {}
    with producer.transaction():
        call(producer, "alpha", "1")
    assert extras_db.job_count() == 1 and extras_db.log_counts() == {"queued": 1}


def test_a_call_wakes_the_workers_once(extras_db, producer):
    with extras_db.connect() as listener:
        listener.execute("LISTEN ch_pgqueuer")
        many(producer, [{"entrypoint": "alpha"}] * 100)
        [event] = list(listener.notifies(timeout=10, stop_after=1))
        assert json.loads(event.payload)["operation"] == "insert"
        assert list(listener.notifies(timeout=0)) == []


@pytest.mark.parametrize("policy, rows", [("full", 3), ("terminal", 0), ("failures", 0)])
def test_the_log_policy_decides_on_the_queued_row(extras_db, producer, policy, rows):
    call(producer, "alpha", log_policy=policy)
    many(producer, [{"entrypoint": "alpha"}] * 2, log_policy=policy)
    assert extras_db.job_count() == 3
    assert extras_db.log_counts().get("queued", 0) == rows


def test_a_time_is_when_it_begins(extras_db, producer):
    job = extras_db.job(call(producer, "alpha", execute_after="2030-01-02 03:04:05+00"))
    assert job["execute_after"].isoformat() == "2030-01-02T03:04:05+00:00"
    rows = many(producer, [{"entrypoint": "a", "delay": 1.5}, {"entrypoint": "a", "delay": "2 hours"},
                           {"entrypoint": "a", "execute_after": "2030-01-02T03:04:05Z"}])
    waits = [extras_db.value("SELECT extract(epoch FROM execute_after - created)::float8 FROM pgqueuer"
                             " WHERE id = %s", [job_id]) for _, job_id in rows]
    assert waits[:2] == [1.5, 7200]
    assert extras_db.job(rows[2][1])["execute_after"] == job["execute_after"]


# -- dedupe keys -------------------------------------------------------------------------------------


def test_raise_refuses_it_all_and_says_which_job(extras_db, producer):
    call(producer, "alpha", dedupe_key="k1")
    before = stored(extras_db)
    for jobs, place in [(["k0", "k1"], 1), (["k2", "k2"], 1)]:
        with pytest.raises(psycopg.errors.UniqueViolation) as refused:
            many(producer, [{"entrypoint": "alpha", "dedupe_key": key} for key in jobs])
        assert refused.value.diag.message_primary == "a dedupe key is taken by a job that is queued or running"
        assert refused.value.diag.constraint_name == "pgqueuer_unique_dedupe_key"
        assert f"job {place} of the batch" in refused.value.diag.message_detail
    assert stored(extras_db) == before


def test_skip_leaves_out_taken_and_repeated_keys(extras_db, producer):
    call(producer, "alpha", dedupe_key="k1")
    rows = many(producer, [{"entrypoint": "alpha", "dedupe_key": key} for key in ("k1", "k2", "k2", None)],
                on_conflict="skip")
    ids = [job_id for _, job_id in rows]
    assert ids[0] is None and ids[2] is None and ids[1] and ids[3]
    assert call(producer, "alpha", dedupe_key="k1", on_conflict="skip") is None
    assert extras_db.log_counts() == {"queued": 3}


def test_update_priority_raises_and_never_lowers(extras_db, producer):
    first = call(producer, "alpha", "1", dedupe_key="k1", headers='{"a": 1}')
    before = extras_db.job(first)
    rows = many(producer, [{"entrypoint": "beta", "priority": 9, "dedupe_key": "k1"},
                           {"entrypoint": "beta", "priority": 4}], on_conflict="update_priority")
    assert rows[0] == (0, first) and rows[1][1] not in (None, first)
    assert extras_db.job(first) == {**before, "priority": 9}
    assert call(producer, "alpha", priority=3, dedupe_key="k1", on_conflict="update_priority") == first
    assert extras_db.job(first) == {**before, "priority": 9}
    assert extras_db.log_counts() == {"queued": 2}


# -- what is refused ---------------------------------------------------------------------------------

ENTRYPOINT, KEY, PAYLOAD = 1024, 2048, 64 * 1024 * 1024
HEADERS = 1024 * 1024 - len('{"a": ""}')
DELAY_HOURS = 100 * 366 * 24  # PostgreSQL 14 reads no interval of so many milliseconds
DELAY_MS = DELAY_HOURS * 3_600_000


@pytest.mark.parametrize("arguments, words, state", [
    ({"entrypoint": ""}, "the entrypoint is empty", "22023"),
    ({"entrypoint": None}, "the entrypoint is empty", "22023"),
    ({"entrypoint": "x" * (ENTRYPOINT + 1)}, "the entrypoint has 1025 bytes; at most 1024", "54000"),
    ({"dedupe_key": "\u00e9" * 1024 + "x"}, "the dedupe key has 2049 bytes; at most 2048", "54000"),
    ({"headers": json.dumps({"a": "x" * (HEADERS + 1)})}, "the headers text has 1048577 bytes", "54000"),
    ({"headers": "[1]"}, "the headers are JSON, but not an object", "22023"),
    ({"headers": "7"}, "the headers are JSON, but not an object", "22023"),
    ({"headers": "{"}, "invalid input syntax for type json", "22P02"),
    ({"delay": "-1 s"}, "the delay must be from 0 to 3162240000000 ms, is -1000", "54000"),
    ({"delay": f"{DELAY_HOURS}:00:00.001"}, f"is {DELAY_MS + 1}", "54000"),
    ({"execute_after": "1969-12-31 23:59:59Z"}, "the absolute time is out of range", "54000"),
    ({"execute_after": "infinity"}, "the absolute time is out of range", "54000"),
    ({"execute_after": "2030-01-01Z", "delay": "1 s"}, "a delay and an absolute time are given", "22023"),
    ({"payload": "a", "payload_bytes": b"a"}, "use one", "22023"),
    ({"on_conflict": "ignore"}, "on_conflict is none of the choices: ignore", "22023"),
    ({"log_policy": "none"}, "there is no log policy none", "22023"),
])
def test_what_the_library_refuses_is_refused_in_its_words(extras_db, producer, arguments, words, state):
    with pytest.raises(psycopg.Error) as refused:
        call(producer, **{"entrypoint": "alpha", **arguments})
    assert words in refused.value.diag.message_primary
    assert refused.value.sqlstate == state
    assert stored(extras_db) == ([], [])


def test_the_limits_themselves_are_allowed(extras_db, producer):
    call(producer, "x" * ENTRYPOINT, dedupe_key="y" * KEY, headers=json.dumps({"a": "x" * HEADERS}),
         delay=f"{DELAY_HOURS} h", payload_bytes=b"z" * 1000)
    assert extras_db.job_count() == 1


def test_the_largest_payload_is_taken_and_a_byte_more_is_not(extras_db, producer):
    sized = "SELECT pgqueuer_c.enqueue('alpha', payload_bytes => convert_to(repeat('x', %s), 'UTF8'))"
    with pytest.raises(psycopg.errors.ProgramLimitExceeded, match="67108865 bytes; at most 67108864"):
        producer.execute(sized, [PAYLOAD + 1])
    producer.execute(sized, [PAYLOAD])
    assert extras_db.value("SELECT octet_length(payload) FROM pgqueuer") == PAYLOAD


def test_a_batch_has_a_limit_of_jobs_and_of_bytes(extras_db, producer):
    batch = "SELECT cardinality(pgqueuer_c.enqueue_arrays(array_fill('a'::text, ARRAY[%s])))"
    with pytest.raises(psycopg.errors.ProgramLimitExceeded, match="has 100001 jobs; at most 100000"):
        producer.execute(batch, [100_001])
    assert producer.execute(batch, [100_000]).fetchone() == (100_000,)
    with pytest.raises(psycopg.errors.ProgramLimitExceeded, match="has 100001 jobs; at most 100000"):
        producer.execute("SELECT pgqueuer_c.enqueue_many((SELECT jsonb_agg(i) FROM generate_series(0, 100000) i))")
    with pytest.raises(psycopg.errors.ProgramLimitExceeded, match="more than 268435456 bytes"):
        producer.execute("SELECT pgqueuer_c.enqueue_arrays(ARRAY['a','a','a','a','a'], ARRAY[b,b,b,b,c])"
                         " FROM (SELECT convert_to(repeat('x', %s), 'UTF8') AS b, '\\x00'::bytea AS c) AS x",
                         [PAYLOAD])
    assert extras_db.job_count() == 100_000


@pytest.mark.parametrize("jobs, words, place", [
    ([{"entrypoint": "a"}, {"entrypoint": ""}], "the entrypoint is empty", 1),
    ([{"entrypoint": "a"}, {}], "the entrypoint is empty", 1),
    ([{"entrypoint": "a"}, 7], "the job is not a JSON object", 1),
    ([None], "the job is not a JSON object", 0),
    ([{"entrypoint": "a", "entry_point": "b"}], "a job has no member entry_point", 0),
    ([{"entrypoint": "a"}] * 3 + [{"entrypoint": "a", "payload": {"id": 1}}], "the payload must be a JSON string", 3),
    ([{"entrypoint": "a", "priority": "1"}], "the priority must be a JSON number", 0),
    ([{"entrypoint": "a", "headers": [1]}], "the headers must be a JSON object", 0),
    ([{"entrypoint": "a", "payload": "", "payload_base64": ""}], "use one", 0),
])
def test_a_bad_job_of_a_batch_is_named_and_nothing_is_in(extras_db, producer, jobs, words, place):
    with pytest.raises(psycopg.errors.InvalidParameterValue) as refused:
        many(producer, jobs)
    assert words in refused.value.diag.message_primary
    assert refused.value.diag.message_detail == f"job {place} of the batch, counted from 0"
    assert stored(extras_db) == ([], [])


@pytest.mark.parametrize("jobs", ["{}", "1", "null", None])
def test_jobs_that_are_no_array_are_refused(producer, jobs):
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="the jobs are not a JSON array"):
        producer.execute("SELECT pgqueuer_c.enqueue_many(%s::jsonb)", [jobs])


def test_no_jobs_are_no_error(extras_db, producer):
    assert many(producer, []) == []
    assert call(producer, [], function="enqueue_arrays") == []
    assert call(producer, None, function="enqueue_arrays") == []


def test_arrays_of_other_lengths_are_refused(producer):
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="not of one length"):
        producer.execute("SELECT pgqueuer_c.enqueue_arrays(ARRAY['a', 'b'], priorities => ARRAY[1])")


def test_update_priority_refuses_a_repeated_key(extras_db, producer):
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="each dedupe key at most once"):
        many(producer, [{"entrypoint": "a", "dedupe_key": "k"}] * 2, on_conflict="update_priority")
    assert extras_db.job_count() == 0


# -- rights ------------------------------------------------------------------------------------------


def test_a_producer_has_no_right_on_the_tables(producer):
    call(producer, "alpha", "1")
    for table in ("pgqueuer", "pgqueuer_log", "pgqueuer_statistics", "pgqueuer_c.counts"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            producer.execute(f"SELECT FROM {table}")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nobody_may_call_them_until_it_is_granted(extras_db, function):
    extras_db.execute("CREATE ROLE sql_nobody LOGIN; GRANT USAGE ON SCHEMA pgqueuer_c TO sql_nobody")
    try:
        argument = {"enqueue_arrays": "ARRAY['a']", "enqueue": "'a'", "enqueue_many": "'[]'"}[function]
        with psycopg.connect(extras_db.cluster.dsn(extras_db.name, "sql_nobody")) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match=function):
                connection.execute(f"SELECT pgqueuer_c.{function}({argument})")
    finally:
        extras_db.execute("DROP OWNED BY sql_nobody; DROP ROLE sql_nobody")


def test_installing_again_keeps_what_was_granted(extras_db, producer, pgqueuer):
    assert pgqueuer("install", "--extras", dsn=extras_db).returncode == 0
    assert call(producer, "alpha") > 0


def test_objects_that_a_producer_plants_are_not_used(extras_db, producer):
    """In a schema that is first in its path, and in its temporary schema, which always is."""
    extras_db.execute("CREATE SCHEMA trap; GRANT ALL ON SCHEMA trap TO sql_producer")
    producer.execute("SET search_path = trap, pg_catalog")
    for schema in ("trap", "pg_temp"):
        producer.execute(f"CREATE TABLE {schema}.pgqueuer (id bigint)")
        producer.execute(f"CREATE FUNCTION {schema}.now() RETURNS timestamptz LANGUAGE sql AS"
                         " $$SELECT 'epoch'::timestamptz$$")
    producer.execute("CREATE FUNCTION trap.octet_length(text) RETURNS integer LANGUAGE plpgsql AS"
                     " $$BEGIN RAISE 'planted, as %', current_user; END$$")
    job_id = call(producer, "alpha", "1")
    [(_, other)] = many(producer, [{"entrypoint": "alpha", "payload": "2"}])
    [third] = call(producer, ["alpha"], function="enqueue_arrays")
    assert extras_db.job(third)["entrypoint"] == "alpha"
    assert extras_db.job(job_id)["execute_after"] == extras_db.job(job_id)["created"]
    assert extras_db.job(other)["created"].year > 2000
    producer.execute("SET search_path = DEFAULT")
    extras_db.execute("DROP OWNED BY sql_producer; DROP SCHEMA trap CASCADE;"
                      "GRANT USAGE ON SCHEMA pgqueuer_c TO sql_producer")


def test_hostile_texts_are_data(extras_db, producer):
    text = """'; DROP TABLE pgqueuer; -- "$body$ \\' {home} :queue %s"""
    job = extras_db.job(call(producer, text, text, dedupe_key=text, headers=json.dumps({text: text})))
    assert (job["entrypoint"], job["payload"], job["dedupe_key"]) == (text, text.encode(), text)
    assert job["headers"] == {text: text}
    with pytest.raises(psycopg.errors.InvalidParameterValue) as refused:
        call(producer, "a", on_conflict="%s'; DROP TABLE pgqueuer; --")
    assert "%s'; DROP" in refused.value.diag.message_primary


def test_a_superuser_who_installs_does_not_lend_its_rights(pgqueuer, db):
    """The owner of the tables is who the functions work as."""
    db.execute("DROP ROLE IF EXISTS sql_owner; CREATE ROLE sql_owner LOGIN;"
               f"GRANT CREATE ON DATABASE {db.name} TO sql_owner; GRANT CREATE ON SCHEMA public TO sql_owner")
    done = pgqueuer("install", dsn=db.cluster.dsn(db.name, "sql_owner"))
    assert done.returncode == 0, done.stderr
    assert pgqueuer("install", "--extras", dsn=db).returncode == 0
    assert db.value("SELECT proowner::regrole::text FROM pg_proc WHERE proname = 'enqueue_arrays'") == "sql_owner"
    assert db.value("SELECT pgqueuer_c.enqueue('alpha')") == 1
    db.cluster.drop_database(db)
    db.cluster.admin("DROP ROLE sql_owner")


# -- installing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("options, extras, tables", [
    (("--prefix", "acme_"), "pgqueuer_c_acme_", "acme_pgqueuer"),
    (("--schema", "jobs"), "pgqueuer_c_jobs", "jobs.pgqueuer"),
    (("--schema", "jobs", "--prefix", "acme_"), "pgqueuer_c_jobs_acme_", "jobs.acme_pgqueuer"),
])
def test_they_are_those_of_the_installation(pgqueuer, db, options, extras, tables):
    for others in (options, ()):
        installed(pgqueuer, db, *others)
        assert pgqueuer(*others, "install", "--extras", dsn=db).returncode == 0
    for way in ("raise", "skip", "update_priority"):
        db.execute(f"SELECT {extras}.enqueue('alpha', 'one', dedupe_key => '{way}', on_conflict => '{way}')")
        db.execute(f"SELECT {extras}.enqueue_many('[{{\"entrypoint\": \"beta\"}}]', '{way}')")
    assert db.value(f"SELECT count(*) FROM {tables}") == 6
    assert db.value(f"SELECT count(*) FROM {tables}_log") == 6
    assert db.job_count() == 0
    with pytest.raises(psycopg.errors.UniqueViolation) as refused:
        db.execute(f"SELECT {extras}.enqueue('alpha', dedupe_key => 'skip')")
    assert refused.value.diag.constraint_name == f"{tables.split('.')[-1]}_unique_dedupe_key"
    assert verify(pgqueuer, db, "present", *options) == verify(pgqueuer, db) == []


def test_the_schema_of_the_tables_may_have_any_name_but_one_with_quotes(pgqueuer, db):
    db.execute('CREATE SCHEMA "My Jobs"; CREATE SCHEMA "it\'s"')
    path = "PGOPTIONS"
    odd = {path: "-c search_path=\"My\\ Jobs\""}
    assert pgqueuer("install", "--extras", dsn=db, env=odd).returncode == 0
    assert pgqueuer("verify", "--expect", "present", dsn=db, env=odd).returncode == 0
    db.execute("SELECT pgqueuer_c.enqueue('alpha')")
    assert db.value('SELECT count(*) FROM "My Jobs".pgqueuer') == 1
    done = pgqueuer("--prefix", "x_", "install", "--extras", dsn=db, env={path: "-c search_path=\"it's\""})
    assert done.returncode == 1 and "cannot be made for a schema of such a name" in done.stderr
    assert db.value("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'x_%'") == 0


def test_the_functions_of_another_installation_are_not_taken_away(pgqueuer, extras_db):
    """Two that only the search_path tells apart share the schema of the extras."""
    extras_db.execute("CREATE SCHEMA second")
    path = {"PGOPTIONS": "-c search_path=second"}
    done = pgqueuer("install", "--extras", dsn=extras_db, env=path)
    assert done.returncode == 1
    assert "enqueues into another installation" in done.stderr
    extras_db.execute("SELECT pgqueuer_c.enqueue('alpha')")
    assert extras_db.job_count() == 1
    assert verify(pgqueuer, extras_db) == []


@pytest.mark.parametrize("change, lines", [
    ("DROP FUNCTION pgqueuer_c.enqueue_many", ["missing function 'pgqueuer_c.enqueue_many'"]),
    ("CREATE OR REPLACE FUNCTION pgqueuer_c.enqueue_many(jobs jsonb, on_conflict text DEFAULT 'raise',"
     " log_policy text DEFAULT 'full') RETURNS TABLE (place integer, id bigint) LANGUAGE sql"
     " SET search_path = pg_catalog, pg_temp AS 'SELECT 1, 1'",
     ["function 'pgqueuer_c.enqueue_many' is not the one of this release"]),
    ("ALTER FUNCTION pgqueuer_c.enqueue_arrays SECURITY INVOKER",
     ["function 'pgqueuer_c.enqueue_arrays' has the rights of its caller"]),
    ("ALTER FUNCTION pgqueuer_c.enqueue SECURITY DEFINER",
     ["function 'pgqueuer_c.enqueue' has the rights of its owner"]),
    ("ALTER FUNCTION pgqueuer_c.enqueue_arrays RESET search_path",
     ["function 'pgqueuer_c.enqueue_arrays' follows the caller's search_path"]),
    ("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pgqueuer_c TO public", []),
])
def test_verify_tells_what_is_different_and_install_mends_it(pgqueuer, extras_db, change, lines):
    extras_db.execute(change)
    assert verify(pgqueuer, extras_db) == lines
    assert pgqueuer("install", "--extras", dsn=extras_db).returncode == 0
    assert verify(pgqueuer, extras_db) == []


def test_verify_says_that_the_extras_of_an_older_release_lack_them(pgqueuer, extras_db):
    for function in FUNCTIONS[1:] + FUNCTIONS[:1]:
        extras_db.execute(f"DROP FUNCTION pgqueuer_c.{function}")
    done = pgqueuer("verify", "--expect", "present", dsn=extras_db)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [f"missing function 'pgqueuer_c.{name}'" for name in FUNCTIONS]


def test_a_worker_of_either_release_does_what_they_enqueue(extras_db, producer, drain, python_worker, journal):
    ids = [call(producer, "alpha", "one"), *(i for _, i in many(producer, [{"entrypoint": "alpha"}]))]
    drain(extras_db, args=["alpha=ok"])
    ids.append(call(producer, "beta", "two", headers='{"a": 1}'))
    worker = python_worker(extras_db, "--mode", "drain", entrypoints=["beta=ok"])
    assert worker.wait(60) == 0, worker.log()
    assert sorted(run.job_id for run in journal.runs()) == sorted(ids)
    assert extras_db.log_counts() == {"queued": 3, "picked": 3, "successful": 3}
