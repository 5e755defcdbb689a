"""What went wrong, in one line: the reason at the bottom of it, which file, and what to do.

A failure inside Spark comes wrapped: py4j says that a call failed, Spark that a job was aborted, a
task that it lost its writer, and only the last of the chain that the disk is full.
"""

import json
import re
from collections.abc import Iterator

from longattn.udfs.errors import LongAttnError
from longattn.udfs.redaction import redacted_text

INTERRUPTED = "interrupted; what was committed is kept, run it again to go on"
# What the innermost message holds -> what to say of it, and what to do.
ADVICE = {
    r"No space left on device|Disk quota exceeded|os error 28": (
        "the disk is full; free space or inodes (df, df -i), or name another place: tables.root, an"
        " export's path, or for Spark's own files spark.conf: {spark.local.dir: FOLDER}"
    ),
    r"Read-only file system|os error 30": (
        "the place cannot be written to; mount it for writing or set another tables.root"
    ),
    r"Permission denied|AccessDenied|os error 13": "this user may not read or write there",
    r"is not a Parquet file|CANNOT_READ_FILE|FAILED_READ_FILE|Could not read footer|corrupt": (
        "the file is damaged or cut short; restore it from a backup"
    ),
    r"Python worker (exited|process terminated) unexpectedly|PYTHON_WORKER|worker crashed"
    r"|pyspark\.daemon's stdout": (
        "a Python worker died, killed or out of memory; use fewer slots (spark.master: local[1])"
        " or a smaller score.batch, then run it again"
    ),
    r"OutOfMemoryError|Java heap space": (
        "Java is out of memory; set spark.conf: {spark.driver.memory: 6g}, or more"
    ),
}
JVM_GONE = (
    "Spark's Java process is gone, killed or out of memory; what was committed is kept, run this"
    " again"
)
JVM_ERRORS = {"Py4JNetworkError", "ConnectionRefusedError", "ConnectionResetError", "EOFError"}
# Messages that only say that something further down failed.
EMPTY = re.compile(
    r"^(Job aborted|Task failed|Task \d+ in stage|\[TASK_WRITE_FAILED\]|An error occurred while"
    r"|Writing job|Exception thrown in awaitResult|Job \d+ cancelled|Lost task)"
)
CLASS = re.compile(r"^(?:[a-z][\w$]*\.)+(?=[A-Z])")  # java.io.IOException: -> IOException:
ARROW = re.compile(r"\s*(?:\x1b\[\d+m)*↳(?:\x1b\[\d+m)*\s*")  # as deltalake draws its causes
PYTHON_ERROR = re.compile(r"^(?:[\w.]*\.)?(\w*(?:Error|Exception|Interrupt|Exit)\b.*)")


def one_line(error: BaseException) -> str:
    """An error as one line that says what failed and, where it is known, what to do."""
    return redacted_text(_one_line(error))


def _one_line(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return str(error) or INTERRUPTED
    if isinstance(error, LongAttnError):
        return _first(str(error))
    if _jvm_is_gone(error):
        return JVM_GONE
    try:
        chain = list(_messages(error))
    except Exception:  # Java has died before it could say why
        return JVM_GONE
    reason = next((text for text in reversed(chain) if text and not EMPTY.match(text)), chain[0])
    file = _file_in(chain)
    if file and file not in reason:
        reason = f"{reason} ({file})"
    return reason + _advice(chain)


def _messages(error: BaseException) -> Iterator[str]:
    """The message of each error of the chain, outermost first."""
    java = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    worker = _of_worker(str(error))
    if worker:
        yield worker
    elif java is None:
        yield _named(error)
    while java is not None and not worker:
        text = str(java.toString())
        yield _of_worker(text) or _first(CLASS.sub("", text))
        java = java.getCause()


def _named(error: BaseException) -> str:
    _, *causes = ARROW.split(str(error).strip())
    if causes:
        return ": ".join(causes)
    text = _first(str(error))
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {text}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _of_worker(text: str) -> str | None:
    """What a Python worker's traceback ended with; None where there is none."""
    _, traceback, rest = text.rpartition("Traceback (most recent call last):")
    if not traceback:
        return None
    lines = rest.splitlines()
    ends = [match[1] for line in lines if (match := PYTHON_ERROR.match(line))]
    return ends[0] if ends else None


def _advice(chain: list[str]) -> str:
    for pattern, advice in ADVICE.items():
        if any(re.search(pattern, text) for text in chain):
            return f": {advice}"
    return ""


def _file_in(chain: list[str]) -> str | None:
    for text in chain:
        if match := re.search(r"(?:file:/+|s3a?://|abfss?://|gs://)[^\s'\",;]+", text):
            return re.sub(r"^file:/+", "/", match[0]).rstrip(".:")
    return None


def _jvm_is_gone(error: BaseException) -> bool:
    """True for what py4j raises when nobody answers."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if type(error).__name__ == "Py4JError":  # a call that was not answered; others carry a trace
        return "Trace:" not in str(error) and "does not exist" not in str(error)
    return bool(names & JVM_ERRORS) and "py4j" in str(_modules(error))


def _modules(error: BaseException) -> list[str]:
    """Modules of the frames that an error came through."""
    modules, trace = [type(error).__module__], error.__traceback__
    while trace:
        modules.append(trace.tb_frame.f_globals.get("__name__", ""))
        trace = trace.tb_next
    return modules


def _first(text: str) -> str:
    """The first line; and the second, where the first is but a name: `ParseException:`."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1]) if lines else ""
