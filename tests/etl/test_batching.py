"""Pending windows cut into batches: each window once, few files a batch, about a minute's work."""

from hypothesis import given
from hypothesis import strategies as st

from longattn.etl.scoring.batching import GROWTH, MOST, FileCount, Pace, batches

COUNTS = st.lists(st.integers(1, 300), max_size=20)


def files_of(counts: list[int]) -> list[FileCount]:
    return [FileCount(f"f{n:03}", count, 10 * count) for n, count in enumerate(counts)]


@given(counts=COUNTS, sizes=st.lists(st.integers(1, 200), min_size=1, max_size=50))
def test_every_window_is_in_one_batch_whatever_the_pace(
    counts: list[int], sizes: list[int]
) -> None:
    """The pace changes between batches; no batch exceeds the size that held when it was cut."""
    pace = Pace(sizes[0], 60.0)
    held: list[tuple[str, int]] = []
    coming = batches(files_of(counts), pace)
    for turn, batch in enumerate(coming):
        assert 0 < batch.n_windows <= pace.size
        held += [(s.file.file, nth) for s in batch.shares for nth in range(s.first, s.stop)]
        pace.size = sizes[(turn + 1) % len(sizes)]
    expected = [(file.file, nth) for file in files_of(counts) for nth in range(file.n_windows)]
    assert held == expected


@given(counts=COUNTS, size=st.integers(1, 200))
def test_a_file_is_read_no_more_often_than_its_size_asks(counts: list[int], size: int) -> None:
    reads: dict[str, int] = {}
    for batch in batches(files_of(counts), Pace(size, 60.0)):
        for name in batch.files:
            reads[name] = reads.get(name, 0) + 1
    for file in files_of(counts):
        assert reads[file.file] <= 2 + (file.n_windows - 1) // size


def test_the_pace_finds_a_minutes_work() -> None:
    """At a window a second a batch holds sixty, at ten thousand as many as pass the driver."""
    slow = Pace(4, 60.0)
    for _ in range(4):
        slow.note(slow.size, seconds=slow.size / 1.0)
    assert slow.size == 60
    fast = Pace(16, 60.0)
    sizes = []
    for _ in range(6):
        fast.note(fast.size, seconds=fast.size / 10_000)
        sizes.append(fast.size)
    assert sizes[:2] == [16 * GROWTH, 16 * GROWTH**2] and sizes[-1] == MOST


def test_a_window_that_takes_hours_is_committed_alone() -> None:
    pace = Pace(16, 60.0)
    pace.note(16, seconds=16 * 3600)
    assert pace.size == 1


def test_the_config_bounds_the_pace() -> None:
    pace = Pace(500, 60.0, most=32)
    assert pace.size == 32
    pace.note(32, seconds=0.01)
    assert pace.size == 32
