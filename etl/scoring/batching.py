"""Pending windows cut into batches: by file, so that a batch reads few, and by time, so that a
commit holds about as much work whatever a window costs.

The list of windows stays on the executors; the driver holds a row a file.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

MOST = 32_768  # windows of a batch: their statistics pass through the driver
GROWTH = 8  # times the size before, at most: the first batches are slow, as models are loaded


@dataclass(frozen=True)
class FileCount:
    """A data file of `windows`, and what is pending in it."""

    file: str
    n_windows: int
    n_tokens: int


@dataclass(frozen=True)
class Share:
    """Pending windows first <= nth < stop of a file."""

    file: FileCount
    first: int
    stop: int

    @property
    def n_windows(self) -> int:
        return self.stop - self.first

    @property
    def n_tokens(self) -> int:
        return self.file.n_tokens * self.n_windows // max(self.file.n_windows, 1)


@dataclass(frozen=True)
class Batch:
    """Windows scored and committed together."""

    shares: Sequence[Share]

    @property
    def n_windows(self) -> int:
        return sum(share.n_windows for share in self.shares)

    @property
    def n_tokens(self) -> int:
        return sum(share.n_tokens for share in self.shares)

    @property
    def files(self) -> list[str]:
        return sorted({share.file.file for share in self.shares})

    def holds(self) -> Column:
        """True for the rows of `numbered` that are the batch's; the files go by name."""
        whole = [s.file.file for s in self.shares if s.n_windows == s.file.n_windows]
        held = F.col("file").isin(whole)
        for share in self.shares:
            if share.n_windows < share.file.n_windows:
                nth = F.col("nth").between(share.first, share.stop - 1)
                held |= (F.col("file") == share.file.file) & nth
        return held


def numbered(windows: DataFrame) -> DataFrame:
    """Pending windows (window_id, file, n_tokens) with `nth`, their place in their file from 0."""
    place = Window.partitionBy("file").orderBy("window_id")
    return windows.select(
        "window_id", "file", "n_tokens", (F.row_number().over(place) - 1).alias("nth")
    )


def file_counts(windows: DataFrame) -> list[FileCount]:
    """What is pending in each file, in the order of their names."""
    sums = (F.count("*").alias("n"), F.sum("n_tokens").alias("tokens"))
    rows = windows.groupBy("file").agg(*sums).orderBy("file").collect()
    return [FileCount(row["file"], row["n"], row["tokens"]) for row in rows]


@dataclass
class Pace:
    """How many windows the next batch should hold: about `seconds` of work, at most `most`."""

    size: int  # of the first batch; of the next one from then on
    seconds: float
    most: int = MOST

    def __post_init__(self) -> None:
        self.size = max(1, min(self.size, self.most))

    def note(self, n_windows: int, seconds: float) -> None:
        """Take up how long a batch took."""
        wanted = int(n_windows * self.seconds / max(seconds, 1e-3))
        self.size = max(1, min(wanted, GROWTH * self.size, self.most))


def batches(files: Sequence[FileCount], pace: Pace) -> Iterator[Batch]:
    """Batches that hold every pending window once, each as large as the pace is by then."""
    shares: list[Share] = []
    for file in files:
        first = 0
        while first < file.n_windows:
            room = pace.size - sum(share.n_windows for share in shares)
            stop = min(file.n_windows, first + max(room, 1))
            shares.append(Share(file, first, stop))
            full, first = stop - first >= room, stop
            if full:
                yield Batch(shares)
                shares = []
    if shares:
        yield Batch(shares)
