"""Runs the command line of the Python release, one command after the other, in one process: a JSON list of
lists of arguments on stdin; prints a JSON list of exit statuses."""

import json
import sys

from pgqueuer.adapters.cli.cli import app
from typer.testing import CliRunner

runner = CliRunner()
statuses = []
for arguments in json.load(sys.stdin):
    done = runner.invoke(app, arguments, prog_name="pgqueuer")
    statuses.append(done.exit_code)
    print(arguments, done.exit_code, done.output, repr(done.exception), file=sys.stderr)
print(json.dumps(statuses))
