"""A report of made-up facts, for the tests of the page and of how a browser draws it."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd

from longattn.etl import config as config_module
from longattn.etl.report import figures, samples
from longattn.etl.report.build import Facts, build
from longattn.etl.report.page import Page
from longattn.etl.report.refused import Pair, Refused
from longattn.etl.run.figures import DomainFigures, Figures
from longattn.udfs.pictures.links import Link
from longattn.udfs.scorers.meaning import meaning_of

DOMAINS = ("arxiv", "book", "code")
LONGATTN, RECALL, RANDOM = "longattn:tiny@ab12cd34:k=L/4", "recall:n=6:k=1024", "random:seed=0"
EACH = 400  # windows of a domain
CUT = 1.2


def points() -> pd.DataFrame:
    """Windows by three scorers: recall is the score with noise, random is random."""
    rng = np.random.default_rng(0)
    value = rng.normal(0, 1.1, EACH * len(DOMAINS))
    ids = [f"w{i:05}" for i in range(len(value))]
    frame = pd.DataFrame({"window_id": ids, "domain": np.repeat(DOMAINS, EACH)})
    own = frame.assign(scorer=LONGATTN, ds=rng.gamma(6, 0.02, len(value)), value=value)
    own["du"] = -rng.lognormal(-18, 0.4, len(value))
    others = [
        frame.assign(scorer=RECALL, ds=value + rng.normal(0, 0.3, len(value)), du=0.0),
        frame.assign(scorer=RANDOM, ds=rng.random(len(value)), du=0.0),
    ]
    parts = [own, *(other.assign(value=other["ds"]) for other in others)]
    parts = [part.assign(selected=part["value"] > CUT, error=0.0) for part in parts]
    return pd.concat(parts)


def runs() -> pd.DataFrame:
    started = datetime(2026, 11, 23, 21, 0, tzinfo=UTC)
    rows = [
        ("ingest", 1294, 1260, {"missing_text": 30, "broken_json": 4}, 12.1),
        ("dedup", 1260, 1108, {"exact": 52, "near": 100}, 33.7),
        ("windows", 1108, 921, {"too_short": 187}, 40.2),
        ("score", 1200, 1200, {}, 300.5),
        ("select", 1200, 150, {"below_cut": 1037, "no_room_in_mix": 13}, 9.4),
        ("export", 300, 300, {}, 7.9),
    ]
    frame = pd.DataFrame(rows, columns=["job", "rows_in", "rows_out", "refused", "seconds"])
    return frame.assign(started=started)


def document_fates() -> pd.DataFrame:
    rows = [
        ("book", "kept", 921, 40_000_000, 10_000_000),
        ("code", "exact", 52, 400_000, None),
        ("code", "near", 100, 800_000, None),
        ("code", "too_short", 187, 1_200_000, 300_000),
    ]
    return pd.DataFrame(rows, columns=["domain", "fate", "documents", "chars", "tokens"])


def window_fates() -> pd.DataFrame:
    rows = [
        ("book", "contaminated", 6, 48_000, 0),
        ("book", "below the cut", 1037, 8_300_000, 400_000),
        ("book", "no room in the mix", 13, 104_000, 0),
        ("book", "in the mix", 150, 1_200_000, 0),
    ]
    return pd.DataFrame(rows, columns=["domain", "fate", "windows", "tokens", "overlap"])


def lengths() -> pd.DataFrame:
    rows = [
        (domain, 2.0 ** (10 + i / 2 + j), 40 - abs(12 - i) * 3)
        for j, domain in enumerate(DOMAINS)
        for i in range(22)
    ]
    return pd.DataFrame(rows, columns=["domain", "n_tokens", "documents"])


def facts() -> Facts:
    compared = [("random", 0.12), ("length", 0.3), ("alpha=1", 0.9)]
    of_domain = DomainFigures(scored=EACH, selected=50, planned=3_000_000, made=2_990_080, cut=CUT)
    overlaps = {(name, domain): share for name, share in compared for domain in DOMAINS}
    hits = [("gsm8k:13-grams:00", "book", 4), ("mmlu:13-grams:00", "book", 2)]
    return Facts(
        config=config_module.validate({"window": {"length": 8192}}),
        selection="0123456789abcdef",
        scorer=LONGATTN,
        windowing="longattn-8192",
        score=meaning_of("longattn"),
        points=points(),
        total=EACH * len(DOMAINS),
        samples=150,
        documents=document_fates(),
        windows=window_fates(),
        lengths=lengths(),
        long_enough={"book": 300, "code": 200},
        contamination=pd.DataFrame(hits, columns=["evaluation", "domain", "windows"]),
        runs=runs(),
        last_runs={row["job"]: [row, row] for row in runs().to_dict("records")},
        counted=Figures(domains=dict.fromkeys(DOMAINS, of_domain), overlaps=overlaps),
        formats=["jsonl", "mds"],
        seconds={"longattn": 0.25},
        versions={"scores": 3},
        refused=[
            Refused(
                reason="broken json",
                place="file:/data/books.jsonl, record 5",
                detail="Expecting value: line 1 column 9",
                excerpt='{"text": <b>half a',
            )
        ],
        near_pairs=[
            Pair(
                domain="code",
                similarity=0.83,
                names=("code.jsonl c1", "code.jsonl c7"),
                texts=("def add(a, b):\n    return a + b\n", "def add(x, y):\n    return x + y\n"),
            )
        ],
    )


def shown() -> list[samples.Sample]:
    """One window a domain, with a map and with links of both kinds."""
    link = Link(start=150, stop=153, source=60, source_stop=63, weight=0.25)
    far = np.tril(np.random.default_rng(1).random((24, 24)), -6)
    passages = samples.passages(
        [link], lambda start, stop: " ".join(f"<t{i % 90}>" for i in range(start, stop))
    )
    stands = samples.standings(points(), ["w00000", f"w{EACH:05}", f"w{2 * EACH:05}"])
    return [
        samples.Sample(
            window_id=window_id,
            domain=domain,
            provenance={"file": "books.jsonl, record 12"},
            beginning="It was a dull <evening>, and Anne had no wish to go & meet them.\n" * 6,
            rest="The <rest> of it, to the end.\n" * 40,
            standings=standing,
            links={"attention": passages, "repeats": passages},
            map_figure=figures.attention_map(far, 200, 50, far * 0.8 + 0.1),
        )
        for domain, (window_id, standing) in zip(DOMAINS, stands.items(), strict=True)
    ]


def page() -> Page:
    return build(facts(), shown())
