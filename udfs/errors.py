"""The one exception tree; it lives here because both `udfs` and `etl` raise it.

    LongAttnError                  exit 1: the job failed
    ├── UserError                  exit 2: the arguments or the config are wrong
    │   ├── ConfigError            a key, a value or a combination of them
    │   └── SourceError            a path that is not there, a column that is not in the file
    ├── ModelError                 a checkpoint that cannot be scored, named with the reason
    ├── TableError                 a table that cannot be read or written as asked
    │   ├── UnsupportedTableFeature  a Delta feature this connector cannot honour, by name
    │   ├── LostLogError         the log of a table, or its end, is not there any more
    │   └── ConcurrentWriteError   another writer won; the caller may re-read and try again
    │       └── LeaseLostError   the root is another run's by now; nothing may be written
    ├── StorageError               a place that cannot be opened, read or written
    ├── LedgerError                rows in are not rows out plus rows refused
    ├── NothingLeft                all of a source was refused, a selection is empty
    └── ExportError                a sample that cannot be written in the format asked for

Messages are one line: what, where, what was meant.
"""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# Packages that `pip install longattn-spark` leaves out, by the extra that brings them.
EXTRAS = {
    "spark,java": ("pyspark", "py4j"),
    "models": ("torch", "transformers", "safetensors", "triton"),
    "plot": ("matplotlib",),
}


class LongAttnError(Exception):
    """Base of every error this project raises on purpose."""

    exit_code = 1


class UserError(LongAttnError):
    """What was asked for is wrong; nothing has been run."""

    exit_code = 2


class ConfigError(UserError):
    """A config key or value is unknown, missing or out of bounds."""


class SourceError(UserError):
    """A source path, format or field does not exist."""


class ModelError(LongAttnError):
    """A model or tokenizer cannot be used for scoring."""


class TableError(LongAttnError):
    """A table cannot be read or written as asked."""


class UnsupportedTableFeature(TableError):
    """The table uses a Delta feature that the connector in use would misread."""


class LostLogError(TableError):
    """A table's log lacks what is known to have been written."""


class ConcurrentWriteError(TableError):
    """Another writer committed first and the two changes do not commute."""


class LeaseLostError(ConcurrentWriteError):
    """The root is, or may be, another run's by now; this one must write no more."""


class StorageError(LongAttnError):
    """A folder or an object store cannot be reached as asked."""


class LedgerError(LongAttnError):
    """A job's rows do not balance."""


class NothingLeft(LongAttnError):
    """A job that should have given something would give nothing."""


class ExportError(LongAttnError):
    """A sample cannot be represented in the export format."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type when it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def whole_message(error: BaseException) -> str:
    """All of an error's message, its line breaks as spaces."""
    return " ".join(str(error).split())


def missing_extra(error: ModuleNotFoundError) -> str:
    """What to install where a module is missing, in one line.

    >>> missing_extra(ModuleNotFoundError(name="torch.nn"))
    "torch is not installed here: pip install 'longattn-spark[models]'"
    """
    package = (error.name or str(error)).split(".")[0]
    extra = next((extra for extra, names in EXTRAS.items() if package in names), None)
    wanted = f"longattn-spark[{extra}]" if extra else package
    return f"{package} is not installed here: pip install '{wanted}'"


@contextmanager
def extras_named() -> Iterator[None]:
    """Raise ConfigError, which says what to install, where the block misses a package."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(missing_extra(error)) from None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ' (did you mean X?)' for the closest known word, or the list of what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else f" (there are: {', '.join(names)})"
