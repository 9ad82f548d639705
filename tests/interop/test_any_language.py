"""The programs of docs/guide/any-language.md, as they stand there, each run by its own driver where that
is installed: an order and its job in one transaction, with the rights of a producer only."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from lib import program

GUIDE = program.REPOSITORY / "docs" / "guide" / "any-language.md"
PROGRAM_SECONDS = 300  # of a language that compiles


def snippets():
    """By language, the program under each heading of the last chapter."""
    chapter = GUIDE.read_text().split("\n## In your language\n")[1]
    return dict(re.findall(r"^### .*?\n\n```(\w+)\n(.*?)^```$", chapter, re.M | re.S))


def answers(*command, **options):
    """Whether a program is there and does what is asked of it."""
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, timeout=60, **options).returncode == 0


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def python(text, folder):
    return [sys.executable, write(folder, "enqueue.py", text)]


def javascript(text, folder):
    if not answers("node", "-e", 'require("pg")', cwd=folder):
        pytest.skip("node with the package pg is not here (NODE_PATH)")
    return ["node", write(folder, "enqueue.js", text)]


def go(text, folder):
    """Of a module that is in the cache: a test downloads nothing."""
    write(folder, "main.go", text)
    write(folder, "go.mod", "module enqueue\n\ngo 1.21\n\nrequire github.com/jackc/pgx/v5 v5.6.0\n")
    if not answers("go", "build", "-mod=mod", "-o", "enqueue", ".", cwd=folder,
                   env={**os.environ, "GOPROXY": "off", "GONOSUMDB": "*", "GOFLAGS": ""}):
        pytest.skip("Go with github.com/jackc/pgx/v5 v5.6.0 in its module cache is not here")
    return [folder / "enqueue"]


def java(text, folder):
    driver = "/usr/share/java/postgresql.jar"
    if not os.path.exists(driver) or not answers("javac", "-version"):
        pytest.skip("Java with libpostgresql-jdbc-java is not here")
    return ["java", "-cp", driver, write(folder, "Enqueue.java", text)]


def csharp(text, folder):
    project = ('<Project Sdk="Microsoft.NET.Sdk"><PropertyGroup><OutputType>Exe</OutputType>'
               "<TargetFramework>net8.0</TargetFramework><ImplicitUsings>enable</ImplicitUsings>"
               "<Nullable>enable</Nullable></PropertyGroup><ItemGroup>"
               '<PackageReference Include="Npgsql" Version="8.*" /></ItemGroup></Project>')
    write(folder, "enqueue.csproj", project)
    write(folder, "Program.cs", text)
    if not answers("dotnet", "build", "-v", "q", "-o", "out", cwd=folder):
        pytest.skip(".NET 8 with Npgsql is not here")
    return [folder / "out" / "enqueue"]


def ruby(text, folder):
    if not answers("ruby", "-e", 'require "pg"'):
        pytest.skip("Ruby with ruby-pg is not here")
    return ["ruby", write(folder, "enqueue.rb", text)]


def php(text, folder):
    if not answers("php", "-r", 'exit(extension_loaded("pdo_pgsql") ? 0 : 1);'):
        pytest.skip("PHP with php-pgsql is not here")
    return ["php", write(folder, "enqueue.php", text)]


def rust(text, folder):
    """Of crates that are in the cache, likewise; compiled once, beside the build."""
    (folder / "src").mkdir()
    write(folder / "src", "main.rs", text)
    write(folder, "Cargo.toml", '[package]\nname = "enqueue"\nversion = "0.1.0"\nedition = "2021"\n'
          '[dependencies]\ntokio = { version = "1", features = ["rt", "macros"] }\ntokio-postgres = "0.7"\n')
    if not answers("cargo", "fetch", "--offline", cwd=folder):
        pytest.skip("Rust with tokio and tokio-postgres in cargo's cache is not here")
    target = program.BUILD / "guide-rust"
    subprocess.run(["cargo", "build", "--offline", "--quiet", "--target-dir", target], cwd=folder,
                   check=True, timeout=PROGRAM_SECONDS)
    return [target / "debug" / "enqueue"]


def perl(text, folder):
    if not answers("perl", "-MDBD::Pg", "-e", "1"):
        pytest.skip("Perl with libdbd-pg-perl is not here")
    return ["perl", write(folder, "enqueue.pl", text)]


def psql(text, folder):
    return ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", write(folder, "enqueue.sql", text)]


LANGUAGES = (python, javascript, go, java, csharp, ruby, php, rust, perl, psql)


@pytest.fixture
def shop(queue_db, pgqueuer):
    """A database with a table of the user's own, and the role of the guide."""
    done = pgqueuer("install", "--extras", dsn=queue_db)
    assert done.returncode == 0, done.stderr
    grants = re.findall(r"^GRANT .* TO app;$", GUIDE.read_text(), re.M)
    assert len(grants) == 2
    queue_db.execute("CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text);"
                     "CREATE ROLE app LOGIN; GRANT SELECT, INSERT ON orders TO app;" + "".join(grants))
    yield queue_db
    queue_db.execute("DROP OWNED BY app; DROP ROLE app")


def environment_of(database):
    cluster, at = database.cluster, {"host": "127.0.0.1", "port": database.cluster.port, "name": database.name}
    tools = {name: os.environ[name] for name in ("NODE_PATH", "GOPATH", "GOMODCACHE", "CARGO_HOME", "HOME")
             if name in os.environ}
    return {
        "PATH": f"{os.environ['PATH']}:{cluster.bin}", "LANG": "C.UTF-8", **tools,
        "PGHOST": at["host"], "PGPORT": str(at["port"]), "PGUSER": "app", "PGDATABASE": at["name"],
        "JDBC_URL": "jdbc:postgresql://{host}:{port}/{name}?user=app".format(**at),
        "NPGSQL": "Host={host};Port={port};Database={name};Username=app".format(**at),
        "DATABASE_URL": "host={host} port={port} user=app dbname={name}".format(**at),
    }


@pytest.mark.scenario("enqueue.any-language")
def test_the_guide_has_a_program_for_each_language_and_no_other():
    assert set(snippets()) == {language.__name__ for language in LANGUAGES}


@pytest.mark.scenario("enqueue.any-language")
@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.__name__)
def test_the_program_of_the_guide_enqueues_in_the_transaction_of_its_own_rows(shop, tmp_path, language):
    command = language(snippets()[language.__name__], tmp_path)
    done = subprocess.run(command, env=environment_of(shop), cwd=tmp_path, capture_output=True, text=True,
                          timeout=PROGRAM_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    job = shop.job(int(done.stdout.strip()))
    assert (job["entrypoint"], job["dedupe_key"], job["status"]) == ("mail", "mail-1", "queued")
    assert b"".join(job["payload"].split()) in (b'{"order":1}', b'{"order":"1"}')
    assert shop.rows("SELECT what, orders.xmin = pgqueuer.xmin FROM orders, pgqueuer") == [("book", True)]
    assert shop.log_of(job["id"]) == ["queued"]


@pytest.mark.scenario("enqueue.any-language")
def test_the_other_examples_of_the_guide_run(shop):
    chapters = GUIDE.read_text().split("\n## In your language\n")[0]
    examples = [sql for sql in re.findall(r"^```sql\n(.*?)^```$", chapters, re.M | re.S) if "SELECT" in sql]
    assert len(examples) == 3
    for sql in examples:
        shop.execute(sql)
    assert shop.job_count() == 5
