"""THE schema: every table's columns, key, partitions and column comments. Nothing else defines one.

Text and token columns stand last and carry no statistics, so that the log stays small
(delta-io/delta-rs#2427). A column of a later version is named in `added` too: tables made before
have null there, and get the column with their next write. Any other change is a migration, noted in
CHANGELOG.md.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from longattn.udfs.ddl import ddl_type
from longattn.udfs.windows.segments import SEGMENTS

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

STATS_COLUMNS = "delta.dataSkippingStatsColumns"
# What Delta keeps bounds of; it refuses a table whose property lists a column of another type.
BOUNDED = {"bigint", "date", "double", "float", "int", "smallint", "string", "timestamp", "tinyint"}

_DOC_KEYS = {
    "doc_id": "SHA-256 prefix of source, source_id and text: stable between runs",
    "domain": "arxiv, book, code or any name under `sources` in the config",
}


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """A table's name, DDL columns with comments, key and partition columns."""

    name: str
    columns: dict[str, tuple[str, str]]  # name -> (Spark DDL type, comment)
    key: tuple[str, ...]
    partition_by: tuple[str, ...] = ()
    unindexed: tuple[str, ...] = field(default=())  # long columns without min/max statistics
    added: tuple[str, ...] = ()  # columns that tables of earlier versions have not

    @property
    def indexed(self) -> list[str]:
        """Columns with min/max statistics in the log: those Delta keeps bounds of, but for the long
        ones and the partitions.
        """
        skipped = {*self.unindexed, *self.partition_by}
        kept = (name for name, (type_, _) in self.columns.items() if type_ in BOUNDED)
        return [name for name in kept if name not in skipped]

    @property
    def stats_property(self) -> str:
        """The value of `delta.dataSkippingStatsColumns`."""
        return ",".join(self.indexed)

    def lacking(self, columns: Collection[str]) -> list[str]:
        """The columns of later versions that a table with these columns has not."""
        return [name for name in self.added if name not in columns]

    @property
    def ddl(self) -> str:
        """The columns as Spark DDL, for UDF return types and createDataFrame."""
        return ", ".join(f"`{name}` {type_}" for name, (type_, _) in self.columns.items())

    @property
    def schema(self) -> "StructType":
        """The columns as a StructType whose fields carry their comments; needs a session."""
        from pyspark.sql.types import StructType

        schema = cast(StructType, StructType.fromDDL(self.ddl))
        for column in schema.fields:
            column.metadata = {"comment": self.columns[column.name][1]}
        return schema


DOCUMENTS = TableSpec(
    name="documents",
    key=("doc_id",),
    partition_by=("domain",),
    unindexed=("meta", "text"),
    columns={
        "doc_id": ("string", _DOC_KEYS["doc_id"]),
        "domain": (
            "string",
            "domain at the first reading; jobs take today's domain from `origins` and the config",
        ),
        "source": ("string", "name of the source in the config"),
        "source_uri": ("string", "file the record was first read from"),
        "source_row": ("bigint", "1-based line or row of the record in that file"),
        "source_id": ("string", "the record's own id, or file name and row"),
        "priority": ("int", "of its source when it was first read"),
        "n_chars": ("bigint", "length of text in Unicode code points"),
        "meta": ("string", "further fields of the record as JSON, when it was first read"),
        "text": ("string", "the document, unchanged"),
    },
)

SOURCE_FILES = TableSpec(
    name="source_files",
    key=("source_uri", "domain", "fingerprint"),
    added=("n_documents",),
    columns={
        "source_uri": ("string", "file that has been read to its end or to its first fault"),
        "domain": ("string", _DOC_KEYS["domain"]),
        "source": ("string", "name of the source in the config"),
        "fingerprint": ("string", "hash of size, modification time and how records are read"),
        "n_bytes": ("bigint", "size of the file"),
        "n_records": ("bigint", "records seen in it, refused ones included"),
        "n_documents": ("bigint", "distinct documents in it; `origins` has a row for each"),
        "read_at": ("timestamp", "when"),
    },
)

ORIGINS = TableSpec(
    name="origins",
    key=("doc_id", "source_uri", "fingerprint"),
    unindexed=("meta",),
    columns={
        "doc_id": ("string", _DOC_KEYS["doc_id"]),
        "source_uri": ("string", "file that holds the document"),
        "fingerprint": ("string", "of the file as it was read; see source_files"),
        "source_row": ("bigint", "1-based line or row of the record in that file"),
        "source_id": ("string", "the record's own id, or file name and row"),
        "n_chars": ("bigint", "length of the document in Unicode code points"),
        "meta": ("string", "further fields of the record as JSON"),
    },
)

FORGOTTEN = TableSpec(
    name="forgotten",
    key=("doc_id", "source_uri", "fingerprint"),
    columns={
        "doc_id": ("string", "document that is not to come back; its id is a hash, no text"),
        "source_uri": ("string", "file that held it"),
        "fingerprint": ("string", "of that file as it was read; see source_files"),
        "forgotten_at": ("timestamp", "when"),
        "ngrams": ("array<bigint>", "hashes of some of its runs of 13 words, for --verify"),
        "record_hash": ("string", "hash of the record's id and its text, under whatever name"),
        "text_hash": ("string", "hash of the text, by which a record without an id is known"),
    },
    unindexed=("ngrams",),
    added=("ngrams", "record_hash", "text_hash"),
)

LISTINGS = TableSpec(
    name="listings",
    key=("inputs", "listing", "source_uri"),
    partition_by=("inputs",),
    columns={
        "inputs": ("string", "names all sources of a config: what they list and how it is read"),
        "listing": ("string", "names one of these sources"),
        "source_uri": ("string", "file that the source named when it was last listed"),
        "fingerprint": ("string", "of that file; see source_files"),
    },
)

REJECTED_BY = "scorer "  # and a version: the source_uri of a window that a scorer refused
REJECTS = TableSpec(
    name="rejects",
    key=("job", "domain", "source_uri", "source_row", "source_id", "reason"),
    unindexed=("detail", "excerpt"),
    columns={
        "job": ("string", "job that refused the record"),
        "domain": ("string", _DOC_KEYS["domain"]),
        "source_uri": ("string", "file, or table, the record came from"),
        "source_row": ("bigint", "1-based line or row in that file; null where it has none"),
        "source_id": ("string", "id of the record, document or window, where it has one"),
        "reason": ("string", "short stable word, for counting: broken_json, missing_text, ..."),
        "detail": ("string", "what exactly was wrong"),
        "excerpt": ("string", "first 200 characters of what was refused"),
        "rejected_at": ("timestamp", "when"),
    },
)

SIGNATURES = TableSpec(
    name="signatures",
    key=("doc_id", "recipe"),
    partition_by=("domain",),
    unindexed=("signature",),
    columns={
        "doc_id": ("string", _DOC_KEYS["doc_id"]),
        "domain": ("string", _DOC_KEYS["domain"]),
        "recipe": ("string", "shingling and hashing parameters; recipes never mix"),
        "text_hash": ("string", "hash of the normalised text, for exact duplicates"),
        "priority": ("int", "source priority of the document"),
        "n_chars": ("bigint", "length of the document"),
        "n_shingles": ("bigint", "shingles with repeats; 0 means too short, compared exactly only"),
        "bands": ("array<bigint>", "one hash per LSH band; empty for a short document"),
        "signature": ("binary", "MinHash values, uint32 little endian; or as the recipe says"),
    },
)

PAIRS = TableSpec(
    name="pairs",
    key=("doc_a", "doc_b", "recipe"),
    columns={
        "doc_a": ("string", "document with the smaller id"),
        "doc_b": ("string", "document with the larger id"),
        "recipe": ("string", "that of signatures, with verification, threshold and domain"),
        "method": ("string", "near; self, with doc_a = doc_b: compared with all before it"),
        "similarity": ("double", "Jaccard of shingles, true or estimated as the recipe says"),
    },
)

DUPLICATES = TableSpec(
    name="duplicates",
    key=("doc_id",),
    columns={
        "doc_id": ("string", "document that was removed"),
        "kept_id": ("string", "document of its cluster that was kept"),
        "method": ("string", "exact or near"),
        "similarity": ("double", "to the document that removed it, 1.0 for exact"),
        "domain": ("string", "domain of the removed document"),
    },
)

LENGTHS = TableSpec(
    name="lengths",
    key=("doc_id", "windowing"),
    partition_by=("domain",),
    unindexed=("sketch", "imports"),
    added=("sketch", "imports"),
    columns={
        "doc_id": ("string", _DOC_KEYS["doc_id"]),
        "domain": ("string", _DOC_KEYS["domain"]),
        "windowing": ("string", "names tokenizer, strategy and length; see windows.windowing"),
        "n_tokens": ("bigint", "tokens of the whole document"),
        "n_windows": ("int", "windows cut from it; null where it was packed with others"),
        "reason": ("string", "why it has no window: too_short; limits are applied by each run"),
        "soft_cuts": ("int", "cuts inside one word: if not 0, ids may differ from one go's"),
        "sketch": ("array<bigint>", "with pack.order similar: its smallest hashes of n-grams"),
        "imports": ("array<string>", "with pack.order repository: what its lines import"),
    },
)

WINDOWS = TableSpec(
    name="windows",
    key=("window_id",),
    partition_by=("domain",),
    unindexed=("token_ids", "segments"),
    added=("packed_from",),
    columns={
        "window_id": ("string", "SHA-256 prefix of doc_id, windowing and window_index"),
        "doc_id": ("string", _DOC_KEYS["doc_id"] + "; null for a packed window"),
        "domain": ("string", _DOC_KEYS["domain"]),
        "window_index": ("int", "0-based place among the document's windows"),
        "start_token": ("bigint", "first token, counted in the document"),
        "end_token": ("bigint", "one past the last token"),
        "start_char": ("bigint", "text[start_char:end_char] is the window's text, in code points"),
        "end_char": ("bigint", "one past the last character"),
        "overlap_tokens": ("bigint", "tokens shared with the document's window before this one"),
        "n_tokens": ("int", "tokens of the window"),
        "tokenizer": ("string", "name and content hash of the tokenizer"),
        "windowing": ("string", "names tokenizer, strategy and length, so that two never mix"),
        "packed_from": ("string", "names the documents that were packed together; else null"),
        "segments": (
            ddl_type(SEGMENTS),
            "documents of a packed window in order, for masks across documents; else null",
        ),
        "token_ids": ("array<int>", "the window's tokens"),
    },
)

CONTAMINATION = TableSpec(
    name="contamination",
    key=("window_id", "evaluation"),
    partition_by=("domain",),
    columns={
        "window_id": ("string", "window that was compared with evaluation sets"),
        "domain": ("string", _DOC_KEYS["domain"]),
        "evaluation": ("string", "names the evaluation sets, as they were, and the run's length"),
        "contaminated": ("boolean", "whether it shares a run of words with one of them"),
    },
)

SCORES = TableSpec(
    name="scores",
    key=("window_id", "scorer"),
    partition_by=("domain",),
    unindexed=("head_s1", "head_s2", "measures"),
    added=("measures",),
    columns={
        "window_id": ("string", "window that was scored"),
        "domain": ("string", _DOC_KEYS["domain"]),
        "scorer": ("string", "names model, weights hash, rope, k and sampling: never mixed"),
        "n_tokens": ("int", "L: tokens of the attention matrix, BOS included when configured"),
        "k": ("int", "minimum distance of the far block, in tokens"),
        "ds": ("double", "dependency strength: mean over heads of S1 / L (paper eq. 5)"),
        "du": ("double", "dependency uniformity: mean over heads of -Var, matrix support"),
        "ds_se": ("double", "standard error of ds; 0 when every row was scored"),
        "du_se": ("double", "standard error of du; 0 when every row was scored"),
        "rows_sampled": ("int", "query rows scored, L when exact"),
        "scored_at": ("timestamp", "when"),
        "head_s1": ("array<double>", "S1 per layer and head, layers in the scorer's order"),
        "head_s2": ("array<double>", "S2 per layer and head, layers in the scorer's order"),
        "measures": ("map<string,double>", "what else the scorer knows of the window, by name"),
    },
)

SELECTIONS = TableSpec(
    name="selections",
    key=("selection", "window_id"),
    partition_by=("selection",),
    added=("score", "scorer"),
    columns={
        "selection": ("string", "name of the selection, or a hash of all it depends on"),
        "window_id": ("string", "window that was selected"),
        "domain": ("string", _DOC_KEYS["domain"]),
        "n_tokens": ("int", "tokens of the window"),
        "ds": ("double", "dependency strength, over the heads selected by"),
        "du": ("double", "dependency uniformity, over the heads and support selected by"),
        "lds": ("double", "the score, under its first name, which scripts still read"),
        "percentile": ("double", "of the score within its domain, 100 for the best"),
        "rank": ("bigint", "1 for the best of its domain"),
        "copies": ("int", "times the mix takes it; 0 when the mix has no room"),
        "mix_order": ("bigint", "seeded shuffle key of the mix"),
        "score": ("double", "what was selected by; LDS unless select.by says otherwise"),
        "scorer": ("string", "what gave the score; null where there is none"),
    },
)

RUNS = TableSpec(
    name="runs",
    key=("run_id",),
    unindexed=("config_json", "refused", "versions_read", "versions_written", "metrics"),
    added=("selection", "settings"),
    columns={
        "run_id": ("string", "one per job started"),
        "job": ("string", "a job; or calibrate, forget or vacuum"),
        "config": ("string", "names the settings of the config that change rows or bytes"),
        "started": ("timestamp", "when"),
        "seconds": ("double", "wall clock"),
        "status": ("string", "running, done, failed; killed when its process was gone"),
        "error": ("string", "one line when it failed or was killed"),
        "rows_in": ("bigint", "rows the job had to decide on"),
        "rows_out": ("bigint", "rows kept"),
        "refused": ("map<string,bigint>", "rows refused, by reason"),
        "versions_read": ("map<string,bigint>", "table -> version"),
        "versions_written": ("map<string,bigint>", "table -> version"),
        "metrics": ("map<string,double>", "tokens, bytes, windows and other counts of the job"),
        "selection": ("string", "id of the selection that a run of select made; else null"),
        "settings": (
            "string",
            "names what a run of select or dedup went by, beside rows",
        ),
        "config_json": ("string", "the whole config"),
    },
)

TABLES: dict[str, TableSpec] = {
    spec.name: spec
    for spec in (
        DOCUMENTS,
        SOURCE_FILES,
        ORIGINS,
        LISTINGS,
        FORGOTTEN,
        REJECTS,
        SIGNATURES,
        PAIRS,
        DUPLICATES,
        LENGTHS,
        WINDOWS,
        CONTAMINATION,
        SCORES,
        SELECTIONS,
        RUNS,
    )
}
