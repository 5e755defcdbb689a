"""Commands run in the test's own process, where Spark is warm; Java that starts fast elsewhere."""

import io
from contextlib import redirect_stderr, redirect_stdout

from longattn.etl import cli
from longattn.etl.session.java import ensure_java, shared_classes


def longattn(*argv: str) -> tuple[int, str]:
    """Run a command to its end: its exit code, and all that it printed."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        code = cli.main(list(argv))
    return code, out.getvalue()


def fast_java() -> str:
    """Options by which Java starts fast, with Spark's classes of an archive where there is one.

    JAVA_HOME becomes that of `ensure_java`, which an archive goes with.
    """
    ensure_java()
    archive = shared_classes()
    reads = "" if "ArchiveClassesAtExit" in archive else archive
    return f"-XX:TieredStopAtLevel=1 -XX:+UseSerialGC {reads}"
