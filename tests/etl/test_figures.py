"""Figures by domain, scorer, format: stored under names, and read back as they were."""

from hypothesis import given
from hypothesis import strategies as st

from longattn.etl.run.figures import (
    DomainFigures,
    Figures,
    FormatFigures,
    ScorerFigures,
    summed,
)

NAMES = st.text(alphabet="ab/%2F =:@", min_size=1, max_size=6)
NUMBERS = st.integers(0, 1 << 40).map(float)


@given(
    st.dictionaries(NAMES, st.tuples(NUMBERS, st.none() | NUMBERS), max_size=3),
    st.dictionaries(NAMES, st.tuples(NUMBERS, NUMBERS), max_size=3),
    st.dictionaries(st.tuples(NAMES, NAMES), st.floats(0, 1), max_size=3),
    st.dictionaries(NAMES, NUMBERS, max_size=3),
)
def test_what_is_stored_is_read_back(
    domains: dict[str, tuple[float, float | None]],
    scorers: dict[str, tuple[float, float]],
    overlaps: dict[tuple[str, str], float],
    counts: dict[str, float],
) -> None:
    """Whatever the names: a domain and a version of a scorer may have slashes."""
    figures = Figures(
        domains={k: DomainFigures(scored=n, cut=cut) for k, (n, cut) in domains.items()},
        scorers={k: ScorerFigures(windows=n, seconds=s) for k, (n, s) in scorers.items()},
        formats={"mds": FormatFigures(samples=3, tokens=24, bytes=99)},
        overlaps=overlaps,
        contaminated=counts,
        added=counts,
    )
    assert Figures.decode({**figures.encode(), "tokens": 1.0, "commits": 2.0}) == figures


def test_names_are_those_that_scripts_and_older_tables_have() -> None:
    stored = {
        "planned/book": 9.0,
        "made/book": 8.0,
        "overlap/alpha=0.5/c/d": 0.25,
        "contaminated/mmlu": 2.0,
        "windows/recall": 7.0,
        "added/scores": 7.0,
        "parquet/samples": 4.0,
    }
    found = Figures.decode({**stored, "windows": 7.0, "other/thing": 1.0})
    assert found.domains == {"book": DomainFigures(planned=9, made=8)}
    assert found.overlaps == {("alpha=0.5", "c/d"): 0.25}
    assert found.contaminated == {"mmlu": 2} and found.added == {"scores": 7}
    assert found.scorers == {"recall": ScorerFigures(windows=7)}
    assert found.formats == {"parquet": FormatFigures(samples=4)}
    assert Figures.decode(None) == Figures()


def test_seconds_are_those_of_each_scorer() -> None:
    first = {
        "recall": ScorerFigures(windows=4, seconds=1),
        "ladm": ScorerFigures(windows=4, seconds=60),
    }
    assert summed([first, {"ladm": ScorerFigures(windows=1, seconds=15)}]) == {
        "recall": ScorerFigures(windows=4, seconds=1),
        "ladm": ScorerFigures(windows=5, seconds=75),
    }
