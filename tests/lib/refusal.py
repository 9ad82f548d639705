"""How the program refuses: its exit statuses, and one error line that says what and what next."""

DONE, FAILED, USAGE, CANNOT_CONNECT, SCHEMA, LISTENER, NOT_FOUND, CONFLICT, TIMED_OUT = range(9)


def assert_refused(done, status, *words):
    """The exit status, nothing on stdout, one error line on stderr that has all the words (a hint
    may follow on a line of its own), and no control character or bytes that are no UTF-8."""
    shown = f"status {done.returncode}\nstdout: {done.stdout}\nstderr: {done.stderr}"
    assert done.returncode == status, shown
    assert done.stdout == "", shown
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith("pgqueuer: error: ")]
    assert len(errors) == 1, shown
    assert len(lines) <= 3, shown
    for word in words:
        assert word.lower() in done.stderr.lower(), f"{word!r} is not in:\n{shown}"
    assert all(c.isprintable() or c == "\n" for c in done.stderr), shown
