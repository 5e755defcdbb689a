"""A small corpus and its config, changes of both, and what a run on a root comes to."""

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers

from longattn.etl.after.status import status_of_logs
from longattn.etl.config import validate
from longattn.etl.run.context import Context, TableSet
from longattn.etl.run.jobs import run_job
from longattn.etl.run.progress import Progress
from longattn.etl.selection.current import current_selection
from longattn.etl.tables.open import open_tables
from longattn.udfs.errors import NothingLeft

JOBS = ("ingest", "dedup", "windows", "score", "select", "export")
# Settings that name domains; those that are no domain (any more) are left out of them.
BY_DOMAIN = (
    *("pack.domains", "score.domains", "mix.weights", "ingest.min_tokens", "select.tokens"),
)
OPTIONAL = ("ingest.min_tokens", "select.tokens")  # None where they name no domain
COUNTED = ("dedup", "windows", "score")  # jobs whose pending rows status counts
SYLLABLES = [c + v for c in "bdklmnrst" for v in "aeio"]


def prose(seed: str, n_words: int) -> str:
    """Made-up words, of which each text has a vocabulary of its own."""
    draw = random.Random(seed)
    vocabulary = ["".join(draw.choices(SYLLABLES, k=2)) for _ in range(200)]
    return " ".join(draw.choices(vocabulary, k=n_words))


def make_tokenizer(folder: Path) -> str:
    """A tokenizer of whole words, with an end of text, in a folder of its own."""
    words = [f"{a}{b}" for a in SYLLABLES for b in ("", *SYLLABLES)]
    vocabulary = {word: number for number, word in enumerate(["<eos>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<eos>"}))
    return str(folder)


def record(name: str, n_words: int = 400, **more: Any) -> dict[str, Any]:
    """A record with an id, a text that follows from it, and fields to map and to filter by."""
    words = prose(name, n_words)
    fields = {"id": name, "text": words, "body": f"{words} .", "lang": "en", "url": name}
    return fields | {"repo": f"r{len(words) % 2}"} | more


@dataclass
class World:
    """Sources in a folder, a config that names them, and the root that is run again and again."""

    folder: Path
    files: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        copied = record("b9", 700)
        self.files = {
            "a.jsonl": [record(f"a{i}", 350 + 90 * i) for i in range(4)] + [copied | {"id": "a9"}],
            "b.jsonl": [record(f"b{i}", 500 + 60 * i, lang="de") for i in range(3)] + [copied],
            "short.jsonl": [record(f"s{i}", 60 + 9 * i) for i in range(9)],
            "eval.jsonl": [{"text": " ".join(prose("a2", 400).split()[90:110])}],
        }
        book = {"path": [self.place("b.jsonl")], "id": "id"}
        self.settings = {
            "sources": {
                "web": [{"path": [self.place("a*.jsonl")], "id": "id", "name": "crawl"}],
                "book": [book],
                "short": [{"path": [self.place("short.jsonl")], "id": "id"}],
            },
            "tokenizer": make_tokenizer(self.folder / "tiny"),
            "window": {"length": 128},
            "pack": {"domains": ["short"]},
            "dedup": {"scope": "global"},
            "score": {"scorer": "recall", "k": 32},
            "select": {"by": "ds", "fraction": 0.5},
        }
        for name in self.files:
            self.write(name)

    def place(self, name: str) -> str:
        return str(self.folder / "in" / name)

    def write(self, name: str) -> None:
        path = self.folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in self.files[name]))

    def context(self, spark: Any, root: str, connector: str = "delta-rs") -> Context:
        """The context of a job on a root of this name."""
        out = self.folder / f"out-{root}"
        places = {
            "tables": {"root": str(self.folder / root), "connector": connector},
            "export": {"jsonl": {"path": f"{out}/jsonl", "compression": "none"}},
            "report": {"path": f"{out}/report.html"},
        }
        config = validate(of_domains(self.settings) | places)
        tables = TableSet(open_tables(spark, config.tables))
        return Context(spark=spark, config=config, tables=tables, progress=Progress())

    def outcome(self, spark: Any, root: str, connector: str = "delta-rs") -> dict[str, Any]:
        """Run all jobs on a root; the rows of what was selected and the exports' bytes."""
        context = self.context(spark, root, connector)
        try:
            for job in JOBS:
                expected = pending(context, job)
                run = run_job(job, context.fresh(same_run=True))
                if job in COUNTED and run.outcome:
                    hits = run.outcome.refused.get("contaminated", 0)
                    assert expected == run.outcome.rows_in - hits, f"status, before {job}"
        except NothingLeft as nothing:
            return {"nothing": str(nothing).split(":")[0]}
        return {"rows": selected(context), "bytes": hashes(self.folder / f"out-{root}/jsonl")}


def of_domains(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, naming no domain that is not among the sources, and none that do not agree."""
    made = json.loads(json.dumps(settings))
    for key in BY_DOMAIN:
        section, name = key.split(".")
        value = made.get(section, {}).get(name)
        if isinstance(value, list):
            made[section][name] = [domain for domain in value if domain in made["sources"]]
        elif isinstance(value, dict):
            kept = {d: v for d, v in value.items() if d in made["sources"]}
            made[section][name] = kept or None if key in OPTIONAL else kept
    scored = set(made.get("score", {}).get("domains", []))
    packed = made.get("pack", {}).get("domains", [])
    made.setdefault("pack", {})["domains"] = [domain for domain in packed if domain not in scored]
    for section in ("pack", "mix", "select"):
        AGREEING[section](made, made.setdefault(section, {}))
    return made


def _agreeing_pack(made: dict[str, Any], pack: dict[str, Any]) -> None:
    """An order is of `concat` alone; a repository's name is read into `meta`."""
    if pack.get("strategy") != "concat":
        pack.pop("order", None)
    if pack.get("order") != "similar":
        pack.pop("verify", None)
    if pack.get("order") == "repository":
        pack["repository"] = "repo"
        for source in (made["sources"][domain][0] for domain in pack["domains"]):
            source["meta"] = sorted({*source.get("meta", []), "repo"})


def _agreeing_mix(made: dict[str, Any], mix: dict[str, Any]) -> None:
    """Several lengths are of tiles, or of whole documents, and have no budget of tokens."""
    window = made["window"]
    if buckets := mix.get("buckets"):
        window["length"] = max(map(int, buckets))
        window["strategy"] = "whole" if window.get("strategy") == "whole" else "tile"
    if buckets or window.get("strategy") == "whole":
        made.get("select", {}).pop("tokens", None)


def _agreeing_select(made: dict[str, Any], select: dict[str, Any]) -> None:
    """Other scorers' scores are there, with a k for short windows; a distance is of recall, and in
    the shortest windows.
    """
    if isinstance(select.get("by"), dict) or select.get("where"):
        also = {"recall": {"k": 32}, "recurrence": {"k": 8}}
        also.pop(made["score"]["scorer"], None)  # whose settings stand in score
        made["score"]["also"] = also
    own = made["score"]["scorer"] == "recall" and select.get("by") == "ds"
    if not (own or isinstance(select.get("by"), dict)) or made["mix"].get("buckets"):
        select.pop("distance", None)


AGREEING = {"pack": _agreeing_pack, "mix": _agreeing_mix, "select": _agreeing_select}


def pending(context: Context, job: str) -> int:
    """Rows that a job has still to decide on, as status tells it from the logs."""
    status = status_of_logs(context.config)
    assert status is not None
    rows: int = status.pending.get(job, {}).get("rows", 0)
    return rows


def selected(context: Context) -> list[dict[str, Any]]:
    """Rows of the current selection, but for its name."""
    _, selection = current_selection(context.fresh())
    rows = (row.asDict() for row in selection.drop("selection").collect())
    return sorted(rows, key=lambda row: str(row["window_id"]))


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each data file of an export."""
    files = sorted(folder.glob("*.jsonl"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# --- changes, each of one thing

Change = Callable[[World], None]


def edit_record(world: World) -> None:
    """A record is corrected: its text gets shorter, so that the old one would win dedup."""
    rows = world.files["a.jsonl"]
    rows[0] = rows[0] | {"text": " ".join(rows[0]["text"].split()[:-60])}
    world.write("a.jsonl")


def edit_in_place(world: World) -> None:
    """A record's words come the other way round: the file's size and time are as they were."""
    rows, status = world.files["a.jsonl"], os.stat(world.place("a.jsonl"))
    row = rows[len(rows) // 2]
    row["text"] = " ".join(reversed(row["text"].split()))
    world.write("a.jsonl")
    os.utime(world.place("a.jsonl"), ns=(status.st_atime_ns, status.st_mtime_ns))


def prepend_record(world: World) -> None:
    world.files["a.jsonl"].insert(0, record(f"new{len(world.files['a.jsonl'])}", 300))
    world.write("a.jsonl")


def drop_record(world: World) -> None:
    world.files["b.jsonl"].pop()
    world.write("b.jsonl")


def add_file(world: World) -> None:
    name = f"a{len(world.files)}.jsonl"
    world.files[name] = [record(name, 420), record("b9", 700) | {"id": name + "copy"}]
    world.write(name)


def rename_file(world: World) -> None:
    name = f"a-renamed{len(world.files)}.jsonl"
    world.files[name] = world.files.pop("a.jsonl")
    os.rename(world.place("a.jsonl"), world.place(name))
    world.files["a.jsonl"] = [record("a-late", 380)]
    world.write("a.jsonl")


def move_to_other_source(world: World) -> None:
    world.files["b.jsonl"].append(world.files["a.jsonl"].pop())
    world.write("a.jsonl")
    world.write("b.jsonl")


def delete_short_file_and_bring_it_back(world: World) -> None:
    shutil.move(world.place("short.jsonl"), world.place("short.kept"))
    world.files["short.jsonl"] = world.files["short.jsonl"][:-2]
    world.write("short.jsonl")


FILES: dict[str, Change] = {
    change.__name__: change
    for change in (
        edit_record,
        edit_in_place,
        prepend_record,
        drop_record,
        add_file,
        rename_file,
        move_to_other_source,
        delete_short_file_and_bring_it_back,
    )
}

# Values that each setting takes in turn; the first is where it begins.
VALUES: dict[str, list[Any]] = {
    "sources.web.0.text": ["text", "body"],
    "sources.web.0.id": ["id", None],
    "sources.web.0.name": ["crawl", None],
    "sources.web.0.where": [{}, {"lang": ["en"]}],
    "sources.web.0.include": [[], ["a.jsonl"]],
    "sources.web.0.exclude": [[], ["a.jsonl"]],
    "sources.web.0.priority": [0, 5],
    "sources.web.0.meta": [[], ["url"]],
    "sources.web.0.license": [None, "mit"],
    "ingest.min_chars": [1, 2600],
    "ingest.max_bytes": [256 << 20, 3800],
    "ingest.min_tokens": [None, 420, {"book": 560}],
    "ingest.max_tokens": [None, 560],
    "dedup.enabled": [True, False],
    "dedup.scope": ["global", "domain"],
    "dedup.ngram": [5, 3],
    "dedup.threshold": [0.8, 0.5],
    "dedup.permutations": [128, 64],
    "dedup.verify": ["jaccard", "signature"],
    "window.length": [128, 192],
    "window.strategy": ["longattn", "tile", "truncate", "whole"],
    "window.min_tokens": [None, 430],
    "window.max_tokens": [None, 610],
    "window.bos": [False, True],
    "window.k": [None, 24],
    "pack.domains": [["short"], [], ["short", "book"]],
    "pack.strategy": ["best_fit", "concat"],
    "pack.order": [None, "source", "similar", "repository"],
    "pack.verify": [False, True],
    "pack.separator": [None, "<unk>"],
    "pack.attend_across": [False, True],
    "pack.score": [False, True],
    "decontaminate.sources": [[], "eval"],
    "decontaminate.ngram": [13, 8],
    "score.domains": [[], ["web"]],
    "score.k": [32, 16],
    "score.scorer": ["recall", "compress"],
    "score.also": [{}, {"recurrence": {"k": 16}}],
    "select.name": [None, "mine"],
    "select.fraction": [0.5, 1.0, 0.25],
    "select.tokens": [None, {"web": 700}],
    "select.threshold": [None, 0.2],
    "select.distance": [None, 64],
    "select.percentile": [None, [20, 90]],
    "select.where": [[], [{"scorer": "recurrence", "percentile": [20, 100]}]],
    "select.per_document": [None, 1],
    "select.by": ["ds", "length", "random", {"recall": 1.0, "recurrence": 0.5}],
    "mix.tokens": [None, 2000],
    "mix.weights": [{}, {"web": 1, "book": 1}],
    "mix.buckets": [{}, {"64": 0.4, "128": 0.6}],
    "mix.upsample_long": [{}, {"500": 3}],
    "mix.short": ["shortfall", "repeat"],
    "mix.max_copies": [4, 2],
    "seed": [0, 3],
}


# Settings that decide and have no values above, by why not; those of exports are golden files'.
NOT_TRIED = {
    "it is another file, or another format of one": ("path", "format"),
    "it is the model's": (
        *("model", "sample_rows", "sample_keys", "layers", "dtype", "rope_theta", "score.bos"),
        *("pairs", "stride", "variant", "heads", "support", "alpha", "normalize", "cascade"),
    ),
    "it is another scorer, or another tokenizer, by name": ("background", "options", "tokenizer"),
    "it comes with pack.order: repository": ("repository",),
    "it names a column of another scorer's scores": ("column",),
}


def set_value(world: World, key: str, value: Any) -> None:
    """Give one setting another value; `eval` stands for the evaluation set's source."""
    if value == "eval":
        value = [{"path": world.place("eval.jsonl"), "name": "questions"}]
    *parents, last = key.split(".")
    node: Any = world.settings
    for part in parents:
        node = node[int(part)] if part.isdecimal() else node.setdefault(part, {})
    node[last] = value


def drop_domain(world: World) -> None:
    world.settings["sources"].pop("book", None)


def rename_domain(world: World) -> None:
    sources = world.settings["sources"]
    if "book" in sources:
        sources["books"] = sources.pop("book")


def restore_domains(world: World) -> None:
    fresh = {"path": [world.place("b.jsonl")], "id": "id"}
    sources = world.settings["sources"]
    sources.pop("books", None)
    sources["book"] = [fresh]


def add_domain(world: World) -> None:
    """A domain of its own files, one of which is a copy of another domain's text."""
    world.files["d.jsonl"] = [record(f"d{i}", 450) for i in range(2)] + [record("b0", 500)]
    world.write("d.jsonl")
    world.settings["sources"]["more"] = [{"path": [world.place("d.jsonl")], "id": "id"}]


SOURCES: dict[str, Change] = {
    change.__name__: change for change in (drop_domain, rename_domain, restore_domains, add_domain)
}


# --- changes by name


def apply(world: World, change: str) -> None:
    """Make a change: the name of a function of above, or `setting=place` of a value in VALUES."""
    key, equals, place = change.partition("=")
    if equals:
        set_value(world, key, VALUES[key][int(place)])
    else:
        (FILES | SOURCES)[key](world)


def drawn(draw: random.Random) -> str:
    """A change of a file, of the sources or of a setting, all equally likely."""
    key = draw.choice([*FILES, *SOURCES, *VALUES])
    return f"{key}={draw.randrange(len(VALUES[key]))}" if key in VALUES else key
