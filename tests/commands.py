"""Commands run in the test's own process, where Spark is warm."""

import io
from contextlib import redirect_stderr, redirect_stdout

from longattn.etl import cli


def longattn(*argv: str) -> tuple[int, str]:
    """Run a command to its end: its exit code, and all that it printed."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        code = cli.main(list(argv))
    return code, out.getvalue()
