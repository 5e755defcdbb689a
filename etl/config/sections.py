"""Every setting of every job: one frozen model per stage, defaults here and nowhere else."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from longattn.etl.config.identity import decisive
from longattn.etl.config.yaml_file import WORDS
from longattn.udfs.digest import json_digest
from longattn.udfs.errors import did_you_mean
from longattn.udfs.redaction import holds_secret, redacted
from longattn.udfs.scorers.base import ScorerSpec
from longattn.udfs.scorers.identity import ScorerId
from longattn.udfs.scorers.kinds.calibrated import Calibration
from longattn.udfs.scorers.registry import PACKED, known_scorers, plugin, reads_model
from longattn.udfs.storage import expanded, local_path
from longattn.udfs.text.words import NAME as WORDS_TOKENIZER
from longattn.udfs.windows.spans import LONGEST

T = TypeVar("T")
Fraction = Annotated[float, Field(gt=0, le=1)]


def _fits(bits: int) -> AfterValidator:
    """Refuses integers that Spark's column of so many bits cannot hold."""

    def fitting(number: int) -> int:
        if not -(1 << bits - 1) <= number < 1 << bits - 1:
            raise PydanticCustomError(
                "too_far", "input should be an integer of {n} bits", {"n": bits}
            )
        return number

    return AfterValidator(fitting)


Positive = Annotated[int, Field(gt=0), _fits(64)]
Length = Annotated[int, Field(ge=8, le=LONGEST)]  # tokens of a window
# As keys, which YAML's reader gives as text.
LengthKey = Annotated[int, Field(ge=8, le=LONGEST, strict=False)]
PositiveKey = Annotated[int, Field(gt=0, strict=False)]
OctaveKey = Annotated[int, Field(strict=False)]


def _place(path: str) -> str:
    """A path with `~` and `${VAR}` expanded; what a variable brings in is looked at too."""
    if not path or "\0" in path:
        raise PydanticCustomError(
            "no_path", "a path must not be empty, and holds no NUL; . is this folder"
        )
    return _without_secret(_expanded(path))


def _expanded(path: str) -> str:
    try:
        return expanded(path)
    except KeyError as error:
        raise PydanticCustomError(
            "variable_not_set",
            "the environment variable {name} is not set, or is empty",
            {"name": error.args[0]},
        ) from None


def _without_secret(text: str) -> str:
    if holds_secret(text):
        raise PydanticCustomError(
            "secret",
            "it must hold no user:password@, signature or other secret, as it is written into"
            " tables, manifests and logs; set those in the environment or in spark.conf"
            " (docs/storage.md)",
        )
    return text


def _texts(value: Any) -> Iterator[str]:
    """The texts of a setting, keys of mappings too; sections within it look at their own."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for pair in value.items() for one in pair for text in _texts(one))
    elif isinstance(value, list):
        yield from (text for one in value for text in _texts(one))


def _ascending(bounds: list[float]) -> list[float]:
    if len(bounds) != 2 or not 0 <= bounds[0] < bounds[1] <= 100:
        raise PydanticCustomError("no_band", "expected [from, to] with 0 <= from < to <= 100")
    return bounds


def _some(paths: list[str]) -> list[str]:
    if not paths:
        raise PydanticCustomError("no_paths", "name at least one path, or leave the source out")
    return paths


def _begins_files(name: str) -> str:
    if "/" in name:
        raise PydanticCustomError("a_path", "it names files in the export's folder: leave / out")
    if not name.isprintable() or len(name.encode()) > PREFIX_BYTES:
        raise PydanticCustomError(
            "no_file",
            "it begins names of files: letters that print, and {n} bytes at most",
            {"n": PREFIX_BYTES},
        )
    return name


def is_folder_name(name: str) -> bool:
    """Whether tables can have a folder of rows by this name."""
    return name != HIVE_NULL and name.isprintable() and len(quote(name)) <= FOLDER_BYTES


def _names_folder(name: str) -> str:
    if not is_folder_name(name):
        raise PydanticCustomError(
            "no_folder",
            "tables have a folder of its name, which has letters that print, {n} bytes at most, and"
            " is not {null}",
            {"n": FOLDER_BYTES, "null": HIVE_NULL},
        )
    return name


Place = Annotated[str, AfterValidator(_place)]  # a folder, a file or a URI
Glob = Annotated[str, AfterValidator(_expanded)]
Percentiles = Annotated[list[float], AfterValidator(_ascending)]  # from < p <= to


def _on_machines(place: str) -> str:
    """The path by which every worker opens a model or tokenizer; none for an object store's."""
    local = local_path(place)
    if local is None:
        raise PydanticCustomError(
            "on_a_store",
            "workers read it from a folder; copy it to one that every machine has, such as a"
            " volume, and name that",
        )
    return local


Folder = Annotated[Place, AfterValidator(_on_machines)]
OWN: Any = None  # of select.by, until Config, which knows the scorer, fills it in
WHOLE = 1e-6  # how far from 1 shares may sum, as thirds do
LONG_NAMES = {"text_field": "text", "id_field": "id"}  # other names of a source's settings
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"  # the folder of rows that have no domain
FOLDER_BYTES = 240  # of a name as that of a folder, which file systems end at 255
PREFIX_BYTES = 200  # of a name that numbers and endings follow
# Settings that other programs name: what is secret in them is hidden, and refused in all others.
OPEN = ("conf", "options")
RANKINGS = ("lds", "random", "length", "ds", "du", "column")  # of select.by, beside scorers
# Of scores, that select.compare may name beside rankings and scorers.
COLUMNS = ("n_tokens", "k", "ds_se", "du_se", "rows_sampled", "doc_tokens", "window_tokens")
# Windows are known by the order's name, and those at random have none.
PackOrder = Annotated[
    Literal["random", "source", "repository", "similar"] | None,
    AfterValidator(lambda order: None if order == "random" else order),
]
PathList = Annotated[
    list[Place],
    BeforeValidator(lambda v: [v] if isinstance(v, str) else v),
    AfterValidator(_some),
]


class Section(BaseModel):
    """A frozen group of settings that refuses keys it does not know."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @field_validator("*")
    @classmethod
    def _hold_no_secret(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name not in OPEN:
            for text in _texts(value):
                _without_secret(text)
        return value

    @model_validator(mode="before")
    @classmethod
    def _accept_words(cls, value: Any) -> Any:
        """Read yes, no, on and off as true and false, where a key takes nothing else."""
        if not isinstance(value, Mapping):
            return value
        switches = {key for key, field in cls.model_fields.items() if field.annotation is bool}
        return {
            key: WORDS.get(v.lower(), v) if key in switches and isinstance(v, str) else v
            for key, v in value.items()
        }


def _with_empty_settings(value: Any) -> Any:
    """Read `[cohesion, recall]` as `{cohesion: {}, recall: {}}`, and settings left out as none."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return {name: {} for name in value}
    if isinstance(value, Mapping):
        return {name: settings or {} for name, settings in value.items()}
    return value


class TablesConfig(Section):
    root: Place = "data/tables"
    """where the tables lie: a folder, a URI, or catalog.schema (native connector only)"""

    connector: Literal["auto", "native", "delta-rs"] = "auto"
    """auto takes native where the session has Delta's classes, else delta-rs"""

    wait: Annotated[float, Field(ge=0)] = 600
    """seconds that a run waits while another one writes to the root"""

    lease: Annotated[float, Field(ge=1)] = 60
    """seconds without a sign of life after which a run on another machine counts as dead"""

    lease_folder: Place | None = None
    """where a catalog's schema keeps its lease: a folder or URI that the driver can write to; Unity
    Catalog names none of its own"""


class SourceConfig(Section):
    path: PathList
    """files, folders or globs: on disk, s3a://, abfss://, dbfs:/Volumes/..."""

    format: Literal["jsonl", "parquet", "text", "longattn", "delta"] = "jsonl"
    """jsonl has a record in each line, parquet and delta in each row, text in each file; longattn
    has lines of <id><tab><JSON>, as the paper published them"""

    text: str = "text"
    """the field with the document; a dot reaches into an object (meta.title)"""

    id: str | None = None
    """the field with the record's own id; None means file name and record number"""

    meta: list[str] = []
    """further fields, which are kept as JSON in documents.meta"""

    name: str | None = None
    """the name in documents.source; None means the domain"""

    license: str | None = None
    """the licence, which is copied into export manifests"""

    where: dict[str, list[str]] = {}
    """fields and the values that a record must have in them, {lang: [en]}; numbers and times are
    compared by value, texts as they stand"""

    include: list[Glob] = []
    """globs on file paths that are read; empty means all"""

    exclude: list[Glob] = []
    """globs on file paths that are left out"""

    priority: Annotated[int, _fits(32)] = 0
    """of duplicates, dedup keeps one with the smallest priority"""

    @model_validator(mode="before")
    @classmethod
    def _accept_long_names(cls, value: Any) -> Any:
        """Read `text_field` and `id_field` as `text` and `id`."""
        if not isinstance(value, Mapping):
            return value
        for long, short in LONG_NAMES.items():
            if long in value and short in value:
                raise PydanticCustomError("twice", f"{short} and {long} are one setting: say one")
        return {LONG_NAMES.get(k, k): v for k, v in value.items()}


class IngestConfig(Section):
    min_chars: Annotated[int, Field(ge=1)] = 1
    """documents of fewer characters are refused"""

    min_tokens: Positive | dict[str, Positive] | None = None
    """documents of fewer tokens are refused before dedup; one number, or one for each domain
    (window.min_tokens refuses after dedup)"""

    max_tokens: Positive | dict[str, Positive] | None = None
    """documents of more tokens are refused before dedup; one number, or one for each domain"""

    max_bytes: Annotated[int, Field(gt=0, le=1 << 30)] = 256 << 20  # a column of Arrow has 2 GiB
    """documents of more bytes in UTF-8 are refused"""

    @property
    def counts_tokens(self) -> bool:
        """Whether documents are limited by their tokens."""
        return self.min_tokens is not None or self.max_tokens is not None


class DedupConfig(Section):
    enabled: bool = True
    """false keeps every document"""

    scope: Literal["domain", "global"] = "domain"
    """whether documents are compared within their domain or across all"""

    ngram: Positive = 5
    """words in a shingle"""

    threshold: Fraction = 0.8
    """the Jaccard similarity from which two documents are duplicates"""

    permutations: Positive = 128
    """hash functions of a MinHash signature"""

    verify: Literal["signature", "jaccard"] = "jaccard"
    """how likely pairs are checked: by their signatures, or by the true Jaccard index of their
    shingles"""


class WindowConfig(Section):
    length: Length = 32_768
    """tokens; with several lengths (mix.buckets) the longest, which packed windows have too"""

    k: Positive | None = None
    """the minimum distance, in tokens, of every scorer that has one and whose own k is not set;
    None means each scorer's default: 1,024 for recall and compress, a share of the window for the
    others"""

    strategy: Literal["longattn", "tile", "truncate", "whole"] = "longattn"
    """longattn cuts from both ends inwards (the paper's Algorithm 1), tile side by side from the
    front, truncate the first window alone; whole leaves documents as they are and cuts longer ones
    side by side"""

    min_tokens: Positive | dict[str, Positive] | None = None
    """documents of fewer tokens are refused; one number for all domains that are not packed, or one
    for each domain; documents that are cut need window.length anyway"""

    max_tokens: Positive | dict[str, Positive] | None = None
    """documents of more tokens are refused; numbers as for min_tokens"""

    bos: bool = False
    """leaves one token of the window to BOS, which is put before the text when it is scored"""


class PackConfig(Section):
    domains: list[str] = []
    """domains of short text, which are packed, and scored only with pack.score"""

    strategy: Literal["concat", "best_fit"] = "best_fit"
    """best_fit cuts no document that fits a window; concat joins all documents and cuts where a
    window is full"""

    order: PackOrder = None
    """with concat, which documents stand together: source, those of a file or folder, but any of a
    table or of a large file in a store; repository, those of a repository, by path and imported
    files first; similar, those that share rare n-grams; random, like None, any"""

    repository: str | None = None
    """with order: repository, the field of `meta` with a document's repository; records without one
    are as with order: source"""

    path: str | None = None
    """with order: repository, the field of `meta` with a file's path in its repository; None means
    the path of the source's file"""

    verify: bool = False
    """with order: similar, joins a document to a window only where it gains more from that window,
    by counts of n-grams, than a document at random would (docs/performance.md has the cost)"""

    score: bool = False
    """whether packed windows are scored, by what counts of n-grams gain from the documents before
    (cross gain). Their domains are then cut as others are, by fraction, tokens, percentile or
    threshold; they are ranked by cross gain whatever select.by says, at random with by: random, and
    no filter looks at them. With false all of them are taken"""

    separator: str | None = None
    """the token between documents; None means the tokenizer's EOS"""

    attend_across: bool = False
    """whether documents of a packed window may attend to those before them"""

    @model_validator(mode="after")
    def _refuse_orders_that_are_not_kept(self) -> "PackConfig":
        if self.order and self.strategy != "concat":
            raise ValueError(
                f"pack.order: {self.order}: {self.strategy} puts documents where they fit; say"
                " strategy: concat"
            )
        if (self.order == "repository") != (self.repository is not None):
            raise ValueError(
                "pack.repository: the field of `meta` that names a document's repository; it is"
                " said with order: repository, and with no other"
            )
        if self.path and self.order != "repository":
            raise ValueError("pack.path: it is said with order: repository, and with no other")
        if self.verify and self.order != "similar":
            raise ValueError("pack.verify: it checks what is joined by order: similar")
        return self


class DecontaminateConfig(Section):
    sources: list[SourceConfig] = []
    """evaluation sets; windows that share words with one are left out"""

    ngram: Positive = 13
    """how many words in a row, as udfs.text.ngrams counts them, must not be shared"""


class ScorerSettings(Section):
    """What the scores of one scorer depend on; a setting that a scorer does not have is refused."""

    model: Folder | None = None
    """like score.model, from which it is taken where it is not set"""

    k: Positive | None = None
    """the minimum distance in tokens; None means window.k, else the scorer's default"""

    sample_rows: Positive | None = None
    """longattn: query rows of each window that are scored exactly; None means all"""

    sample_keys: Annotated[int, Field(ge=0)] = ScorerSpec.sample_keys
    """with sample_rows, keys from which the other rows are estimated; 0 means no estimate, and
    larger errors. On a GPU the estimate's many small kernels may cost more than all rows do"""

    layers: list[Annotated[int, Field(ge=0)]] = list(ScorerSpec.layers)
    """longattn: decoder layers that are scored; 0 is the first"""

    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """the model's precision; auto means bfloat16 where this machine is known to be faster by it,
    else float32"""

    rope_theta: Annotated[float, Field(gt=0)] | None = None
    """longattn: replaces the model's rope_theta (ABF); the paper uses 2.5e6"""

    bos: bool = ScorerSpec.bos
    """puts BOS before the window, as the published scorer does"""

    pairs: Positive = ScorerSpec.pairs
    """prolong: pairs of segments that are compared in each window"""

    stride: Positive | None = None
    """fargain: how many tokens share a short context; None means k"""

    variant: Literal["paper", "code"] = "paper"
    """ladm: the paper's equations, or those of its published code"""

    background: Literal["shipped", "none"] | Folder | None = None
    """recall, seams: the folder of a background (docs/adr/0020-background.md); shipped is the one
    that comes with the package for the tokenizer `words`; None means shipped where windows are of
    `words`, else none"""

    options: dict[str, str | int | float | bool] = {}
    """settings of scorers that other packages bring"""


class ScoreConfig(ScorerSettings):
    scorer: str = ScorerSpec.scorer
    """the scorer's name, as udfs.scorers.registry lists it"""

    model: Folder = ScorerSpec.model
    """longattn: a folder made by `longattn scorer build`; fargain, ladm and prolong: a whole model;
    calibrated: a folder made by `longattn scorer calibrate`"""

    also: Annotated[dict[str, ScorerSettings], BeforeValidator(_with_empty_settings)] = {}
    """further scorers of the same windows by name, each with its own settings: {cohesion: {}}"""

    batch: Positive = ScorerSpec.batch_tokens
    """tokens in a batch, which holds at least one window"""

    commit: Positive | None = None
    """windows in a transaction at most; None means that commit_seconds alone decides"""

    commit_seconds: Annotated[float, Field(gt=0)] = 60.0
    """about how many seconds of work a transaction holds"""

    cascade: Annotated[float, Field(gt=0)] | None = None
    """windows whose estimate lies within so many standard errors of the selection's cut are scored
    exactly too. Estimates are sampled scores (sample_rows, docs/performance.md) or those of the
    scorer calibrated, whose exact scores are fargain's (docs/adr/0013-calibrated.md)"""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU where there is one"""

    threads: Positive | None = None
    """threads of a task; None means one where tasks share a machine"""

    domains: list[str] = []
    """domains that are scored; empty means all"""

    @model_validator(mode="after")
    def _refuse_the_scorer_of_packed_windows(self) -> "ScoreConfig":
        if named := {self.scorer, *self.also} & set(PACKED):
            raise ValueError(f"score: {min(named)} is of packed windows: say pack.score: true")
        return self

    @model_validator(mode="after")
    def _refuse_settings_that_nothing_reads(self) -> "ScoreConfig":
        if self.also.get(self.scorer, ScorerSettings()) != ScorerSettings():
            raise ValueError(
                f"score.also.{self.scorer}: it is score.scorer, whose settings stand in score"
            )
        return self


class WhereConfig(Section):
    """A filter: windows whose score by another scorer is within percentiles of their domain."""

    scorer: str
    """a scorer's name, or its version as `longattn status` prints it"""

    measure: str | None = None
    """one of its measures, such as compress's ratio; None means what it ranks by"""

    percentile: Percentiles
    """[from, to]: windows with from < percentile <= to pass; 100 is the best"""

    @property
    def label(self) -> str:
        """What the ledger calls it: `cohesion`, `compress_ratio`."""
        name = ScorerId.of(self.scorer).name
        return f"{name}_{self.measure}" if self.measure else name


class SelectConfig(Section):
    name: Annotated[str, AfterValidator(_names_folder)] | None = None
    """the selection's id; None means a hash of all that it depends on"""

    by: str | dict[str, float] = OWN
    """what windows are ranked by: lds, ds or du of score.scorer; random, length or column; another
    scorer's name; or weights of several scorers, {recall: 1.0, cohesion: 0.5}, whose scores are
    standardised by domain. None means the scorer's own ranking: lds for longattn, ds for the
    others"""

    column: str | None = None
    """with by: column, the column of scores, such as measures.key"""

    distance: Positive | dict[OctaveKey, float] | None = None
    """where recall ranks, the octave (k, 2k, 4k ...) from which on its gain counts, or a weight for
    each octave, {1024: 0.5, 8192: 2}, with 0 for those left out; None means all of its gain"""

    where: list[WhereConfig] = []
    """windows that pass all of them are ranked"""

    per_document: Positive | None = None
    """at most so many windows of one document are kept, the best ones"""

    fraction: Fraction | dict[str, Fraction] | None = 0.125
    """the share that is kept of all scored windows of the domain, whatever `where` and
    `per_document` leave out"""

    tokens: Positive | dict[str, Positive] | None = None
    """tokens that are kept of each domain; overrides fraction"""

    percentile: Percentiles | dict[str, Percentiles] | None = None
    """[from, to]: windows between these percentiles of their domain are kept; 100 is the best"""

    threshold: float | dict[str, float] | None = None
    """the smallest score that is kept"""

    alpha: float = 0.5
    """the weight of DU in LDS = Std(DS) + alpha * Std(DU)"""

    normalize: Literal["zscore", "minmax"] = "zscore"
    """what Std is: zscore as in the paper, minmax as in its code"""

    support: Literal["matrix", "block"] = "matrix"
    """the entries that the variance is taken over: matrix, L * L (the code), or block, (L - k)^2
    (the paper)"""

    heads: list[Annotated[int, Field(ge=0)]] = []
    """attention heads that count; empty means all"""

    compare: list[str] = ["random", "length"]
    """the report says how far the selection overlaps with these, and with all other scorers that
    have scores"""

    ablate_alpha: list[float] = [0.0, 0.5, 1.0]
    """with by: lds, the overlap with these alphas is reported too"""

    @model_validator(mode="after")
    def _refuse_unknown_columns(self) -> "SelectConfig":
        if self.by == "column" and not self.column:
            raise ValueError("select.column: say which, as measures.key: select.by is column")
        if self.column and self.by != "column":
            raise ValueError("select.column: it is said with by: column, and with no other")
        known, column = {*COLUMNS, "ds", "du"}, self.column or "ds"
        if column not in known and column.removeprefix("measures.") in ("", column):
            hint = did_you_mean(column, {*known, "measures.NAME"})
            raise ValueError(f"select.column: no column of scores to rank by: {column}{hint}")
        return self

    @model_validator(mode="after")
    def _refuse_unknown_scorers(self) -> "SelectConfig":
        """A name must be a ranking or a scorer; of a version the name stands first."""
        known, ranking = known_scorers(), self.by_scorers if self.by else []
        for named in (*ranking, *self.where_scorers):
            if (name := ScorerId.of(named).name) in known:
                continue
            if name in RANKINGS:  # in weights or a filter: alone it names no scorer
                raise ValueError(
                    f"select: {name} is a ranking, which has no scores of its own: name a scorer"
                )
            hint = did_you_mean(name, {*known, *(RANKINGS if named == self.by else ())})
            raise ValueError(f"select: neither a ranking nor a scorer is called {name}{hint}")
        return self

    @property
    def ranks_recall(self) -> bool:
        """Whether `by` names the scorer recall, alone or beside others."""
        return any(ScorerId.of(name).name == "recall" for name in self.by_scorers)

    @property
    def by_scorers(self) -> list[str]:
        """The scorers that `by` names; none where it is a ranking of score.scorer."""
        if isinstance(self.by, dict):
            return list(self.by)
        return [] if self.by in RANKINGS else [self.by]

    @property
    def by_scorer(self) -> str | None:
        """The one scorer that `by` is; None where it is a ranking, or weighs scorers."""
        return None if isinstance(self.by, dict) or self.by in RANKINGS else self.by

    @property
    def where_scorers(self) -> list[str]:
        return [filter_.scorer for filter_ in self.where]


class MixConfig(Section):
    tokens: Positive | None = None
    """tokens of the whole mix; None means as many as the weights allow"""

    weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    """the weight of each domain's tokens; empty means as selected"""

    buckets: dict[LengthKey, Fraction] = {}
    """several lengths of windows and their shares of each domain's tokens, {8192: 0.2, 32768: 0.8}:
    every document is cut at one of them, and packed windows have window.length. With
    window.strategy: whole a key is the most tokens that a document of its bucket has"""

    upsample_long: dict[PositiveKey, Annotated[float, Field(gt=0)]] = {}
    """documents of so many tokens or more count so many times, {32768: 5}, while their domain's
    share stays (arXiv 2402.10171): the others are in the mix less, or with short: repeat the long
    ones come more often"""

    short: Literal["error", "shortfall", "repeat"] = "shortfall"
    """what becomes of a domain with fewer tokens than its share: the job fails, the mix stays
    short, or windows are repeated"""

    max_copies: Positive = 4
    """with short: repeat, how often a window may be in the mix"""

    @model_validator(mode="after")
    def _refuse_shares_that_are_no_whole(self) -> "MixConfig":
        total = sum(self.buckets.values())
        if self.buckets and abs(total - 1) > WHOLE:
            raise ValueError(f"mix.buckets: the shares sum to {total:g}, not to 1")
        return self

    @model_validator(mode="before")
    @classmethod
    def _accept_bare_weights(cls, value: Any) -> Any:
        """Read `mix: {arxiv: 30, book: 30}` as weights."""
        if isinstance(value, Mapping) and value and not set(value) & set(cls.model_fields):
            return {"weights": dict(value)}
        return value


class ExportTarget(Section):
    path: Place
    """the export's folder, which is replaced as a whole when the selection changes"""

    compression: Literal["none", "zstd", "gzip"] = "zstd"
    """jsonl only: how its files are compressed"""

    shard_tokens: Positive = 64 << 20
    """about how many tokens a file holds"""

    by_domain: bool = False
    """makes a folder for each domain, so that the trainer sets the weights (docs/trainers.md)"""

    prefix: Annotated[str, AfterValidator(_begins_files)] = "LongAttn"
    """begins jsonl's data_id, and the names of the files of megatron, megatron_bridge and numpy"""

    text_key: Literal["text", "content"] = "text"
    """jsonl only: the key of the text; the published data set has `content`"""

    position_ids: bool = False
    """parquet and jsonl: adds a column of positions that restart with each document"""

    target_weights: bool = False
    """parquet and jsonl: adds a column of weights for the loss, by which rare far context counts
    more (arXiv 2605.10544)"""

    token_column: Literal["tokens", "input_ids"] = "tokens"
    """mds only: the name of the tokens' column; LLM Foundry reads tokens, ProLong input_ids"""


class ExportConfig(Section):
    parquet: ExportTarget | None = None
    jsonl: ExportTarget | None = None
    megatron: ExportTarget | None = None
    megatron_bridge: ExportTarget | None = None
    mds: ExportTarget | None = None

    numpy: ExportTarget | None = None
    """OLMo-core's arrays"""

    @property
    def targets(self) -> dict[str, ExportTarget]:
        """Format -> target, of those that are configured."""
        each = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: target for name, target in each.items() if target}


class ReportConfig(Section):
    path: Place = "data/report.html"
    """the report, one self-contained page"""

    examples: Annotated[int, Field(ge=0)] = 2
    """how many of the best, and of the worst, windows of each domain are shown"""


class EstimateConfig(Section):
    cpu_hour: Annotated[float, Field(ge=0)] | None = None
    """the price of a core for an hour"""

    gpu_hour: Annotated[float, Field(ge=0)] | None = None
    """the price of a GPU for an hour"""

    currency: str = "USD"
    """the currency of these prices, as it is printed"""


class SparkConfig(Section):
    master: str | None = None
    """the master; None means what spark-submit or the notebook gives, else local[*]"""

    conf: dict[str, str] = {}
    """Spark settings; they win over all that the project sets"""


# What of a config each job's --help lists; all of them read `tables`, `spark` and `seed`.
READ_BY: dict[str, tuple[str, ...]] = {
    "ingest": ("sources", "ingest"),
    "dedup": ("dedup",),
    "windows": ("window", "pack", "tokenizer", "decontaminate", "mix"),
    "score": ("score", "window", "pack"),
    "select": ("select", "mix"),
    "export": ("export", "pack"),
    "report": ("report", "estimate"),
}


class Config(Section):
    """All settings of a run."""

    tables: TablesConfig = TablesConfig()
    sources: dict[str, list[SourceConfig]] = {}
    tokenizer: Folder | None = None
    """a folder, a tokenizer.json or a hub id; None means that of the first scorer in score.scorer
    and score.also that reads a model, or `words`, which needs no files, where none does"""

    ingest: IngestConfig = IngestConfig()
    dedup: DedupConfig = DedupConfig()
    window: WindowConfig = WindowConfig()
    pack: PackConfig = PackConfig()
    decontaminate: DecontaminateConfig = DecontaminateConfig()
    score: ScoreConfig = ScoreConfig()
    select: SelectConfig = SelectConfig()
    mix: MixConfig = MixConfig()
    export: ExportConfig = ExportConfig()
    report: ReportConfig = ReportConfig()
    estimate: EstimateConfig = EstimateConfig()
    """prices for `longattn estimate`"""

    spark: SparkConfig = SparkConfig()
    seed: Annotated[int, _fits(64)] = 0
    """decides on sampled rows, random baselines and the order of packing and mix"""

    @model_validator(mode="before")
    @classmethod
    def _rank_by_the_scorers_own(cls, value: Any) -> Any:
        """Fill in select.by, so that no job asks again what an unset one means."""
        select = value.get("select", {}) if isinstance(value, Mapping) else None
        if not isinstance(select, Mapping) or select.get("by"):
            return value
        return {**value, "select": {**select, "by": own_ranking(_scorer_in(value))}}

    @model_validator(mode="after")
    def _refuse_a_model_that_nothing_reads(self) -> "Config":
        """`score: {model: ...}` alone means a scorer that reads it; the default one does not."""
        score = self.score
        if {"scorer", "model"} & score.model_fields_set == {"model"} and not self._model_reader:
            raise ValueError(
                f"score.model is given, and the default scorer, {score.scorer}, reads none: say"
                " which does, for example score.scorer: longattn"
            )
        return self

    @model_validator(mode="after")
    def _refuse_a_cascade_without_errors(self) -> "Config":
        """Standard errors are stored of sampled scores, for the matrix form over all heads."""
        select, problem = self.select, None
        if self.score.sample_rows is None and self.score.scorer != "calibrated":
            problem = (
                "needs score.sample_rows, or the scorer calibrated: exact scores have no errors"
            )
        elif select.support != "matrix" or select.heads:
            problem = "needs select.support matrix and all heads: others have no standard errors"
        elif select.normalize != "zscore":
            problem = "needs select.normalize zscore: one window's error may move a whole minmax"
        if self.score.cascade and problem:
            raise ValueError(f"score.cascade {problem}")
        return self

    @model_validator(mode="after")
    def _refuse_a_name_of_two(self) -> "Config":
        """`random` ranks by a hash of the window's id, and is a scorer, whose scores are others."""
        by, scorers = self.select.by, [self.score.scorer, *self.score.also]
        if by in RANKINGS and by in scorers:
            raise ValueError(
                f"select.by: {by} is a ranking without scores, and score names a scorer {by} too:"
                f" write {{{by}: 1.0}} to rank by the scorer, or leave it out of score"
            )
        return self

    @model_validator(mode="after")
    def _refuse_what_select_cannot_compare(self) -> "Config":
        """Select would find out after its commit."""
        known = {*RANKINGS, *COLUMNS, *known_scorers()} - {"column"}
        for name in self.select.compare:
            if ScorerId.of(name).name not in known and not name.startswith("measures."):
                hint = did_you_mean(name, known)
                raise ValueError(f"select.compare: {name} is no ranking and no scorer{hint}")
        return self

    @model_validator(mode="after")
    def _refuse_exports_of_ids_that_no_model_has(self) -> "Config":
        for name in ("megatron", "megatron_bridge", "mds", "numpy"):
            counts_words = (self.tokenizer or self._own_tokenizer) == WORDS_TOKENIZER
            if counts_words and getattr(self.export, name):
                raise ValueError(
                    f"export.{name} is of token ids, and the tokenizer words has none that a model"
                    " knows: name your model's tokenizer in `tokenizer`"
                )
        return self

    @model_validator(mode="after")
    def _refuse_unknown_domains(self) -> "Config":
        """A domain that no source has is a misspelt one, or a config copied from another corpus."""
        for key, domains in self._domains_named() if self.sources else ():
            for domain in domains:
                if domain not in self.sources:
                    meant = did_you_mean(domain, self.sources)
                    raise ValueError(f"{key}: {domain} is no domain of `sources`{meant}")
        for domain in self.sources:
            if domain in ("", HIVE_NULL):
                raise ValueError(
                    f"sources: {domain!r} cannot be a domain: tables keep no value under it"
                )
            if not is_folder_name(domain):
                raise ValueError(
                    f"sources: {domain!a} cannot be a domain: tables and exports have a folder of"
                    f" its name, which has letters that print, and {FOLDER_BYTES} bytes at most"
                )
        packed = set(self.score.domains) & set(self.pack.domains)
        if packed:
            raise ValueError(f"score.domains: {min(packed)}: packed domains are not scored")
        return self

    @model_validator(mode="after")
    def _refuse_weights_of_nothing(self) -> "Config":
        """Weights that are all 0 would leave nothing to rank by, or nothing in the mix."""
        select = {"select.by": self.select.by, "select.distance": self.select.distance}
        for key, weights in {"mix.weights": self.mix.weights, **select}.items():
            if isinstance(weights, dict) and weights and not any(weights.values()):
                raise ValueError(f"{key}: all are 0: give one of them a weight")
        return self

    def _domains_named(self) -> list[tuple[str, Iterable[str]]]:
        """Every key whose value names domains, with those it names."""
        by_domain = {
            "mix.weights": self.mix.weights,
            "ingest.min_tokens": self.ingest.min_tokens,
            "ingest.max_tokens": self.ingest.max_tokens,
            "window.min_tokens": self.window.min_tokens,
            "window.max_tokens": self.window.max_tokens,
            "select.fraction": self.select.fraction,
            "select.tokens": self.select.tokens,
            "select.percentile": self.select.percentile,
            "select.threshold": self.select.threshold,
        }
        listed = {"pack.domains": self.pack.domains, "score.domains": self.score.domains}
        mappings = {key: value for key, value in by_domain.items() if isinstance(value, dict)}
        return [*mappings.items(), *listed.items()]

    @model_validator(mode="after")
    def _refuse_fields_that_no_packed_source_keeps(self) -> "Config":
        """A field that is in no record's `meta` would leave every document without repository."""
        sources = [s for domain in self.pack.domains for s in self.sources.get(domain, ())]
        kept = {field for source in sources for field in source.meta}
        for key, field in (("repository", self.pack.repository), ("path", self.pack.path)):
            if field and sources and field not in kept:
                meant = did_you_mean(field, kept) if kept else ""
                raise ValueError(f"pack.{key}: `meta` of no packed source has {field}{meant}")
        return self

    @model_validator(mode="after")
    def _refuse_limits_that_leave_nothing(self) -> "Config":
        for section in ("ingest", "window"):
            limits = getattr(self, section)
            for domain in self.sources:
                least, most = (of_domain(domain, n) for n in (limits.min_tokens, limits.max_tokens))
                if least and most and least > most:
                    raise ValueError(
                        f"{section}.min_tokens: {least:,} is above {section}.max_tokens, {most:,}:"
                        f" no document of {domain} would be left"
                    )
        return self

    @model_validator(mode="after")
    def _refuse_a_distance_of_other_scorers(self) -> "Config":
        """Only recall says from how far back its gain comes."""
        own = self.select.by == "ds" and self.score.scorer == "recall"
        if self.select.distance and not (own or self.select.ranks_recall):
            raise ValueError(f"select.distance is of recall, and select.by is {self.select.by}")
        return self

    @model_validator(mode="after")
    def _refuse_buckets_of_other_windows(self) -> "Config":
        """Lengths that share documents need windows that do not overlap, and leave nothing out."""
        longest, length = max(self.mix.buckets, default=None), self.window.length
        if longest is None:
            return self
        if self.window.strategy not in ("tile", "whole"):
            raise ValueError(
                f"mix.buckets: windows of strategy {self.window.strategy} overlap or leave tokens"
                " out: say window.strategy: tile, or whole"
            )
        if longest != length:
            raise ValueError(
                f"mix.buckets: the longest has {longest:,} tokens and window.length is {length:,}:"
                f" say window.length: {longest}"
            )
        return self

    @model_validator(mode="after")
    def _refuse_what_needs_one_length(self) -> "Config":
        if not self.bounds:
            return self
        which = "mix.buckets" if self.mix.buckets else "window.strategy: whole"
        if self.select.tokens is not None:
            raise ValueError(
                f"select.tokens: with {which} a domain's lengths are ranked apart, and one budget"
                " has no place: say select.fraction, and mix.tokens for the whole"
            )
        for name in ("megatron", "numpy"):
            if getattr(self.export, name):
                raise ValueError(
                    f"export.{name}: its samples all have one length, and {which} gives several:"
                    " export parquet, jsonl, mds or megatron_bridge"
                )
        return self

    @model_validator(mode="after")
    def _refuse_a_distance_of_a_window(self) -> "Config":
        """No two tokens of a window are as far apart as it is long: every DS would be 0."""
        k, length = self.window.k, self.lengths[0]
        if k is not None and k >= length:
            name = "the shortest of mix.buckets" if len(self.lengths) > 1 else "window.length"
            raise ValueError(f"window.k: {k} is not below {name}, {length}: nothing is far")
        return self

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths that documents are cut at, BOS counted where it is; the shortest first."""
        several = self.window.strategy != "whole" and self.mix.buckets
        return tuple(sorted(several or [self.window.length]))

    @property
    def bounds(self) -> tuple[int, ...]:
        """The most tokens of windows that are ranked and mixed together; none where all are alike.

        Powers of two of documents as they are, where mix.buckets names no others.
        """
        if self.mix.buckets or self.window.strategy != "whole":
            return tuple(sorted(self.mix.buckets))
        length = self.window.length
        return (*(1 << n for n in range((length - 1).bit_length())), length)

    @property
    def hash(self) -> str:
        """16 hex digits that name the settings which change rows or bytes; the ledger has them."""
        return json_digest(decisive(self))[:16]

    @property
    def tokenizer_path(self) -> str:
        """The tokenizer's folder, file or hub id; the scorers' own when none is set (ADR 19)."""
        if self.tokenizer is None and self._model_reader == "calibrated":
            return Calibration.read(self._own_tokenizer).tokenizer
        return self.tokenizer or self._own_tokenizer

    @property
    def _own_tokenizer(self) -> str:
        """The model whose tokenizer it is; `words` where no scorer reads a model."""
        reader = self._model_reader
        if reader is None:
            return WORDS_TOKENIZER
        also = self.score.also.get(reader) if reader != self.score.scorer else None
        return (also and also.model) or self.score.model

    @property
    def _model_reader(self) -> str | None:
        """The first of the scorers that reads a model."""
        named = (self.score.scorer, *self.score.also)
        return next((n for n in named if n in known_scorers() and reads_model(n)), None)

    def shown(self) -> dict[str, Any]:
        """All settings as they may be printed and stored: secrets of OPEN ones are hidden."""
        settings = self.model_dump(mode="json")
        scorers = (settings["score"], *settings["score"]["also"].values())
        for section, key in ((settings["spark"], "conf"), *((s, "options") for s in scorers)):
            section[key] = redacted(section[key])
        return settings

    def to_json(self) -> str:
        """The same as JSON with sorted keys."""
        return json.dumps(self.shown(), sort_keys=True)


def own_ranking(scorer: str) -> str:
    """What a scorer ranks windows by; `ds` for a name that is not known, which `check` refuses."""
    return plugin(scorer).ranks_by if scorer in known_scorers() else "ds"


def _scorer_in(settings: Mapping[str, Any]) -> str:
    """The scorer that settings name before they are validated."""
    score = settings.get("score")
    named = score.get("scorer") if isinstance(score, Mapping) else getattr(score, "scorer", None)
    return named if isinstance(named, str) else ScorerSpec.scorer


def of_domain(domain: str, value: T | dict[str, T] | None) -> T | None:
    """The domain's value of a setting that is one for all or one for each."""
    return value.get(domain) if isinstance(value, dict) else value
