"""The windows that the report shows: their place, their text and where they look back to."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from longattn.etl.config import Config
from longattn.etl.ingest.current import current_documents
from longattn.etl.report import figures, samples
from longattn.etl.report.samples import Sample
from longattn.etl.run.context import Context
from longattn.etl.run.recipe import Recipe
from longattn.udfs.errors import LongAttnError
from longattn.udfs.pictures.links import Link, heaviest, repeats
from longattn.udfs.scorers.base import Scorer, TokenIds, default_k
from longattn.udfs.scorers.registry import load_scorer
from longattn.udfs.text.tokens import WordTokenizer, load_tokenizer

EXCERPT_CHARS = 600  # of the text that an example shows
NEAR = 1024  # tokens: what a window repeats from further back is shown, or from a quarter of it

Map = tuple[np.ndarray[Any, Any], Sequence[Link], int]  # far attention [Q, K], heavy links, k
# a window's token ids -> where its far attention goes
AttentionMap = Callable[[TokenIds], Map]


def attention_maps(recipe: Recipe) -> AttentionMap | None:
    """Looks at a window's attention with the config's scorer; None where that has none."""
    if recipe.config.score.scorer != "longattn":
        return None
    from longattn.udfs.pictures.attention_map import attention_map

    spec = recipe.spec()

    def look(token_ids: TokenIds) -> Map:
        drawn = attention_map(token_ids, spec)
        at, keys = (places - spec.bos for places in (drawn.rows_R, drawn.keys_R))
        seen = (at >= 0) & (keys >= 0)  # BOS is no token of the window
        links = heaviest(at[seen], keys[seen], drawn.weights_R[seen], samples.LINKS)
        return drawn.mass_QK, links, drawn.k

    return look


def shown_windows(
    context: Context, points: pd.DataFrame, scorer: str, attention: AttentionMap | None
) -> list[Sample]:
    """Windows of every scorer to look at; with maps those that the scorer selected by points at."""
    each = context.config.report.examples
    if not each or points.empty:
        return []
    wanted = samples.to_show(points, each)
    config, tables = context.config, context.tables
    by_tokens = _decoder(config) is not None
    texts = None if by_tokens else tables.read("documents")
    rows = _details(wanted, tables.read("windows"), current_documents(context), texts)
    own = set(samples.to_show(points[points["scorer"] == scorer], each))
    maps = (
        {i: attention(_ids(rows[i])) for i in wanted if i in own and i in rows} if attention else {}
    )
    usual = samples.shared_map([far for far, _, _ in maps.values()])
    stands, seams = samples.standings(points, wanted), _seams(context.recipe)
    windows = [
        _sample(config, rows[window_id], stands[window_id], maps.get(window_id), usual, seams)
        for window_id in wanted
        if window_id in rows
    ]
    return samples.with_room(windows)


def _details(
    window_ids: list[str], windows: DataFrame, documents: DataFrame, texts: DataFrame | None
) -> dict[str, Row]:
    """The windows' places, tokens and sources; and their text, where texts of documents are given.

    `documents` are the current ones.
    """
    columns = ["doc_id", "source", "source_uri", "source_row", "source_id"]
    sources = documents.select(*columns, F.col("domain").alias("domain_now"))
    wanted = windows.where(F.col("window_id").isin(*window_ids))
    rows = wanted.join(sources, "doc_id", "left")
    rows = rows.withColumn("domain", F.coalesce("domain_now", "domain")).drop("domain_now")
    if texts is not None:
        begin, n_chars = F.col("start_char"), F.col("end_char") - F.col("start_char")
        text = F.substring("text", (begin + 1).cast("int"), n_chars.cast("int"))
        rows = rows.join(texts.select("doc_id", "text"), "doc_id", "left")
        rows = rows.withColumn("text", F.coalesce(text, F.lit("")))
    return {row["window_id"]: row for row in rows.collect()}


def _sample(
    config: Config,
    row: Row,
    standings: Sequence[samples.Standing],
    looked: Map | None,
    usual: np.ndarray[Any, Any] | None,
    seams: Scorer | None,
) -> Sample:
    token_ids, text_of = _ids(row), _text_of(config, row)
    k = config.window.k or min(NEAR, default_k(len(token_ids)))
    far_links = {"repeats": repeats(token_ids, k, samples.LINKS)}
    drawn = None
    if looked is not None:
        far, heavy, far_k = looked
        far_links["attention"] = list(heavy)
        drawn = figures.attention_map(far, len(token_ids), far_k, usual)
    links = (
        {kind: samples.passages(of, text_of) for kind, of in far_links.items()} if text_of else {}
    )
    text = text_of(0, len(token_ids)) if text_of else row["text"]
    places = _provenance(config, row)
    if seams and text_of and not seams.refusal(token_ids):
        seam = int(seams.score([token_ids])[0]["measures"]["seam"])
        places |= {"weakest place": samples.weakest(seam, text_of, len(token_ids))}
    return Sample(
        window_id=row["window_id"],
        domain=row["domain"],
        provenance=places,
        beginning=text[:EXCERPT_CHARS],
        rest=text[EXCERPT_CHARS:],
        standings=standings,
        links=links,
        map_figure=drawn,
    )


def _text_of(config: Config, row: Row) -> samples.TextOf | None:
    """Reads a window by its tokens; None where its text is not the one that the tokens are of."""
    ids = row["token_ids"]
    if (decode := _decoder(config)) is None:
        return samples.text_by_words(row["text"], len(ids))
    return lambda start, stop: decode(ids[start:stop])


def _decoder(config: Config) -> Callable[[Sequence[int]], str] | None:
    """Tokens to text; None for the tokenizer `words`, which has nothing to decode."""
    tokenizer = load_tokenizer(config.tokenizer_path)
    return None if isinstance(tokenizer, WordTokenizer) else tokenizer.tokenizer.decode


def _seams(recipe: Recipe) -> Scorer | None:
    """The scorer seams as the config has it; None where it is not asked for, or not to be had."""
    score, select = recipe.config.score, recipe.config.select
    if "seams" not in (score.scorer, *score.also, *select.by_scorers, *select.where_scorers):
        return None
    with suppress(LongAttnError):  # its background may be gone since
        return load_scorer(recipe.spec("seams"))
    return None


def _provenance(config: Config, row: Row) -> dict[str, str]:
    """Where a window came from, by what it is called."""
    sources = config.sources.get(row["domain"], [])
    license_ = next(
        (s.license for s in sources if (s.name or row["domain"]) == row["source"]), None
    )
    values = {
        "record": row["source_id"],
        "file": f"{row['source_uri']}, record {row['source_row']}",
        "tokens": f"{row['start_token']:,} to {row['end_token']:,}" if row["end_token"] else None,
        "source": ", ".join(filter(None, (row["source"], license_))),
        "trace": f"longattn trace {row['window_id']} --config FILE",
    }
    return {name: str(value) for name, value in values.items() if value}


def _ids(row: Row) -> TokenIds:
    return np.asarray(row["token_ids"], dtype=np.int64)
