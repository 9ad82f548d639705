"""What a person sees without a database: help, version, and refusals of the command line."""

import subprocess

import pytest

from lib import program
from lib.refusal import DONE, FAILED, NOT_FOUND, USAGE, assert_refused

LEVELS = ("debug", "info", "warning", "error", "critical")
COMMANDS = [
    "install", "uninstall", "verify", "sql install", "sql uninstall", "sql durability",
    "sql autovac", "durability", "autovac", "queue", "run", "dev start", "dev stop", "dev status",
    "dev psql", "dev reset", "demo", "bench drain", "bench latency", "bench horizon", "bench backlog",
    "help", "version", "config show", "completion",
]


def test_without_a_command_the_help_is_a_usage_error(pgqueuer):
    done = pgqueuer()
    assert done.returncode == USAGE
    assert "install" in done.stdout + done.stderr and "queue" in done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("help",)])
def test_the_help_lists_the_commands(pgqueuer, arguments):
    done = pgqueuer(*arguments)
    assert done.returncode == DONE and done.stderr == ""
    for command in COMMANDS:
        assert command.split()[0] in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help(pgqueuer, command):
    by_option = pgqueuer(*command.split(), "--help")
    assert by_option.returncode == DONE and by_option.stderr == ""
    assert command in by_option.stdout
    by_command = pgqueuer("help", *command.split())
    assert (by_command.returncode, by_command.stdout) == (DONE, by_option.stdout)


def test_version(pgqueuer):
    for arguments in (["version"], ["--version"], ["-V"]):
        done = pgqueuer(*arguments)
        assert done.returncode == DONE and "0.1.0" in done.stdout


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["frobnicate"], ["frobnicate"]),
        (["instal"], ["instal", "did you mean", "install"]),
        (["sql", "frobnicate"], ["frobnicate"]),
        (["install", "--frobnicate"], ["--frobnicate"]),
        (["queue", "e", "--priorty", "1"], ["--priorty", "did you mean", "--priority"]),
        (["queue", "e", "--prio", "1"], ["--prio"]),  # no abbreviations
        (["install", "--priority", "1"], ["--priority"]),  # an option of another command
        (["queue", "e", "-x"], ["-x"]),
        (["queue"], ["ENTRYPOINT"]),
        (["queue", "e", "payload", "more"], ["more"]),
        (["run"], ["FILE:SYMBOL"]),
        (["verify"], ["--expect"]),
        (["verify", "--expect", "maybe"], ["maybe", "present", "absent"]),
        (["durability"], ["LEVEL"]),
        (["durability", "sturdy"], ["sturdy", "durable", "balanced", "volatile"]),
        (["install", "--durability", "sturdy"], ["sturdy", "durable", "balanced", "volatile"]),
        (["completion", "tcsh"], ["tcsh", "bash", "zsh", "fish"]),
        (["queue", "e", "--priority"], ["--priority", "value"]),
        (["queue", "e", "--on-conflict", "ignore"], ["ignore", "raise", "skip", "update_priority"]),
        (["run", "x.so:f", "--mode", "fast"], ["fast", "continuous", "drain"]),
        (["run", "x.so:f", "--batch-size", "0"], ["--batch-size", "0", "1000"]),
        (["run", "x.so:f", "--batch-size", "1001"], ["1001"]),
        (["run", "x.so:f", "--batch-size", "ten"], ["ten"]),
        (["run", "x.so:f", "--threads", "-1"], ["-1"]),
        (["run", "x.so:f", "--dequeue-timeout", "nan"], ["nan"]),
        (["run", "x.so:f", "--heartbeat-timeout", "0"], ["--heartbeat-timeout"]),
        (["run", "x.so:f", "--mode", "drain_now"], ["drain_now", "drain-now"]),
        (["run", "x.so:f", "--max-concurrent-tasks", "65537"], ["65537", "65536"]),
        (["run", "x.so:f", "--max-concurrent-tasks", "-1"], ["--max-concurrent-tasks", "-1"]),
        (["run", "x.so:f", "--shutdown-on-listener-failure=yes"], ["takes no value"]),
        (["run", "x.so:f", "--health-check-interval", "0.009"], ["0.009", "0.01"]),
        (["run", "x.so:f", "--health-check-timeout", "0"], ["--health-check-timeout"]),
        (["run", "x.so:f", "--log-aggregation-interval", "86401"], ["86401", "86400"]),
        (["run", "x.so:f", "--log-format", "xml"], ["xml", "text", "json"]),
        (["install", "--prefix", "Big"], ["Big"]),
        (["install", "--prefix", "a b"], ["a b"]),
        (["install", "--schema", "x;drop"], ["x;drop"]),
        (["install", "--pg-port", "70000"], ["70000"]),
    ],
)
def test_usage_errors_say_what_is_wrong(pgqueuer, arguments, words):
    """No database is given: a refusal that needs none must come first."""
    assert_refused(pgqueuer(*arguments), USAGE, *words)


@pytest.mark.parametrize("word", ["\x1b[2J", "a\nb", "\x7f", b"\xff\xfe", "\u00e9" * 60])
@pytest.mark.parametrize("place", [[], ["queue", "e", "--at"], ["run"], ["verify", "--expect"],
                                   ["install", "--prefix"], ["install", "p"]])
def test_what_was_typed_is_shown_without_control_characters(pgqueuer, place, word):
    done = pgqueuer(*place, word)
    assert done.returncode != DONE and done.stdout == ""
    assert "\\x" not in done.stderr, "bytes that are no UTF-8 on the terminal"
    assert all(c.isprintable() or c == "\n" for c in done.stderr), repr(done.stderr)


@pytest.mark.parametrize("level", ["loud", "", "debugg", "inf"])
def test_an_unknown_log_level_lists_the_levels(pgqueuer, level):
    assert_refused(pgqueuer("run", "x.so:f", "--log-level", level), USAGE, *LEVELS)


def test_an_unknown_log_level_in_the_environment_is_refused_too(pgqueuer):
    done = pgqueuer("run", "x.so:f", env={"PGQUEUER_LOG_LEVEL": "loud"})
    assert_refused(done, USAGE, "PGQUEUER_LOG_LEVEL", *LEVELS)


def test_a_missing_settings_file_is_named(pgqueuer, tmp_path):
    done = pgqueuer("install", "--config", tmp_path / "missing.ini")
    assert done.returncode in (FAILED, NOT_FOUND)
    assert_refused(done, done.returncode, "missing.ini", "no such file")


def test_output_that_cannot_be_written_is_a_failure(home):
    program.require_program()
    with open("/dev/full", "w") as full:
        done = subprocess.run([program.PROGRAM, "help"], env=program.clean_environment(home),
                              stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == FAILED and "standard output" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_know_commands_and_options(pgqueuer, shell):
    done = pgqueuer("completion", shell)
    assert done.returncode == DONE
    for word in ("install", "queue", "run", "dedupe-key", "update_priority"):
        assert word in done.stdout


def test_config_show_says_where_each_setting_comes_from_and_no_password(pgqueuer, tmp_path):
    file = tmp_path / "worker.ini"
    file.write_text("[pgqueuer]\nbatch-size = 33\n")
    done = pgqueuer("config", "show", "--config", file, env={
        "PGQUEUER_DSN": "postgresql://u:sesame-open@127.0.0.1/x", "PGQUEUER_THREADS": "7",
    })
    assert done.returncode == DONE, done.stderr
    shown = done.stdout
    assert "sesame-open" not in shown + done.stderr
    [batch] = [line for line in shown.splitlines() if line.startswith("batch_size")]
    assert "33" in batch and "worker.ini" in batch
    [threads] = [line for line in shown.splitlines() if line.startswith("threads")]
    assert "7" in threads and "PGQUEUER_THREADS" in threads


@pytest.mark.parametrize("kind", ["install", "uninstall", "autovac"])
def test_sql_needs_no_server(pgqueuer, kind):
    done = pgqueuer("sql", kind, dsn="postgresql://127.0.0.1:1/none")
    assert done.returncode == DONE and done.stderr == ""
    assert "pgqueuer" in done.stdout
