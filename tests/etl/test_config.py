"""Config: what is accepted, and what one line says about what is not."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, create_model

import longattn
from longattn.etl import config
from longattn.etl.config import identity, sections
from longattn.etl.run.recipe import Recipe
from longattn.etl.tables.schema import SCORES
from longattn.udfs.errors import ConfigError


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config.load(None, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("windw.length=8192", "'window'"),
        ("window.lenght=8192", "'length'"),
        ("sources.book=[{path: a, formatt: jsonl}]", "'format'"),
        ("export.parquet={path: a, shard_token: 3}", "'shard_tokens'"),
        ("select.normalise=zscore", "'normalize'"),
    ],
)
def test_unknown_key_is_refused_with_what_was_meant(override: str, meant: str) -> None:
    assert f"did you mean {meant}?" in refusal(override)


@pytest.mark.parametrize(
    ("override", "where"),
    [
        ("window.length=long", "window.length"),
        ("window.length=7", "window.length"),
        ("window.length=8192.5", "window.length"),
        ("select.fraction=1.5", "select.fraction"),
        ("select.fraction=0", "select.fraction"),
        ("dedup.enabled=3", "dedup.enabled"),
        ("window=3", "window"),
    ],
)
def test_bad_value_is_refused_with_its_place(override: str, where: str) -> None:
    assert refusal(override).startswith(f"config: {where}: ")


def test_set_without_value_is_refused() -> None:
    assert "expected key=value" in refusal("window.length")


def test_missing_file_and_wrong_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "none.yaml")
    listing = tmp_path / "list.yaml"
    listing.write_text("- a\n- b\n")
    with pytest.raises(ConfigError, match="expected a mapping"):
        config.load(listing)
    broken = tmp_path / "broken.yaml"
    broken.write_text("window: [1, 2\n")
    with pytest.raises(ConfigError, match="not YAML"):
        config.load(broken)


def test_override_wins_over_file_which_wins_over_default(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("window: {length: 4096, k: 10}\n")
    loaded = config.load(path, ["window.k=20"])
    assert (loaded.window.length, loaded.window.k) == (4096, 20)
    assert loaded.window.strategy == config.WindowConfig().strategy


def test_both_spellings_of_field_names_mean_the_same() -> None:
    short = config.load(None, ["sources.book=[{path: a, text: content, id: key}]"])
    long = config.load(None, ["sources.book=[{path: a, text_field: content, id_field: key}]"])
    assert short == long


def test_mix_may_be_bare_weights() -> None:
    bare = config.load(None, ["mix.arxiv=30", "mix.book=70"])
    assert bare.mix.weights == {"arxiv": 30.0, "book": 70.0}
    assert bare == config.load(None, ["mix.weights={arxiv: 30, book: 70}"])


def test_hash_is_of_settings_not_of_how_they_were_given(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("window: {length: 4096}\n")
    assert config.load(path).hash == config.load(None, ["window.length=4096"]).hash
    assert config.load(path).hash != config.load(path, ["seed=1"]).hash


def test_a_name_that_is_a_ranking_and_a_scorer_here_is_refused() -> None:
    """They rank differently, and the ranking would win without a word."""
    by_random = "select.by=random"
    for scorers in ("score.also=[random]", "score.scorer=random"):
        assert "select.by: random is a ranking" in refusal(by_random, scorers)
        assert config.load(None, [scorers, "select.by={random: 1.0}"]).select.by == {"random": 1.0}
    assert config.load(None, [by_random]).select.by == "random"


def test_what_select_cannot_compare_with_is_refused_before_it_commits() -> None:
    """It was found after the commit, and called select.column."""
    assert "select.compare: lenght " in (said := refusal("select.compare=[lenght]"))
    assert "did you mean 'length'" in said
    known = ["lds", "random", "ds_se", "measures.ratio", "compress", "compress:k=8"]
    assert config.load(None, [f"select.compare={known}"]).select.compare == known
    numbers = [name for name, (type_, _) in SCORES.columns.items() if type_ in ("int", "double")]
    assert {*sections.COLUMNS, "ds", "du"} == {*numbers, "doc_tokens", "window_tokens"}


IDLE = {  # they change neither rows nor bytes: where things are, how fast, what is shown
    "TablesConfig": {"root", "connector", "wait", "lease", "lease_folder"},
    "ScoreConfig": {"batch", "commit", "commit_seconds", "device", "threads"},
    "SelectConfig": {"compare", "ablate_alpha"},
    "ExportTarget": {"path"},
    "ReportConfig": {"path", "examples"},
    "EstimateConfig": {"cpu_hour", "gpu_hour", "currency"},
    "SparkConfig": {"master", "conf"},
    "Config": {"tables", "report", "estimate", "spark"},
}


def models() -> Iterator[type[BaseModel]]:
    waiting: list[type[BaseModel]] = [sections.Section]
    while waiting:
        model = waiting.pop()
        waiting += model.__subclasses__()
        if model.__module__ == sections.__name__ and model is not sections.Section:
            yield model


def test_every_setting_decides_or_is_known_not_to() -> None:
    """A new one is added to the one list or to the other, and to no identity by itself."""
    for model in models():
        decides = set(identity.DECIDES.get(model.__name__, ()))
        idle = IDLE.get(model.__name__, set())
        assert decides <= set(model.model_fields) <= decides | idle, model.__name__
        assert not decides & idle, model.__name__


def test_a_setting_that_is_new_changes_no_identity() -> None:
    """The hash of defaults is recorded; models with one more field have the identity they had."""
    book = [{"path": "a", "where": {"lang": ["en"]}}]
    filters = [{"scorer": "cohesion", "percentile": [5.0, 95.0]}]
    settings = {"sources": {"book": book}, "select": {"by": "recall", "where": filters}}
    loaded = config.validate(
        {"window": {"length": 4096}, "score": {"scorer": "recall"}, **settings}
    )
    assert loaded.hash == "d6ce3d1acf1ec90a"
    for name in ("sources", "window", "select", "score", "mix", "dedup", "ingest"):
        section = loaded.sources["book"][0] if name == "sources" else getattr(loaded, name)
        more = create_model("More", __base__=type(section), new=(float, 0.5))
        extended: Any = more.model_construct(
            **{field: getattr(section, field) for field in type(section).model_fields}
        )
        assert extended.new == 0.5 and identity.decisive(extended) == identity.decisive(section)


@pytest.mark.parametrize(
    "override",
    ["estimate.currency=EUR", "tables.wait=3", "spark.master=local", "report.examples=0"],
)
def test_what_changes_neither_rows_nor_bytes_changes_no_hash(override: str) -> None:
    assert config.load(None, [override]).hash == config.load(None).hash


@pytest.mark.parametrize(
    "override", ["select.threshold=0.0", "dedup.enabled=false", "score.also=[recall]", "mix.a=1"]
)
def test_what_changes_them_does(override: str) -> None:
    assert config.load(None, [override]).hash != config.load(None).hash


@given(st.text(alphabet="abcxyz._=[]{}:,'\"0123456789 ", max_size=30))
def test_any_override_loads_or_is_refused_in_one_line(override: str) -> None:
    try:
        config.load(None, [override])
    except ConfigError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score": {"cascade": 4.0}}, "needs score.sample_rows"),
        ({"score": {"cascade": 4.0, "sample_rows": 8}, "select": {"heads": [0]}}, "all heads"),
        (
            {"score": {"cascade": 4.0, "sample_rows": 8}, "select": {"normalize": "minmax"}},
            "zscore",
        ),
    ],
)
def test_a_cascade_needs_standard_errors(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"score.cascade .*{message}"):
        config.validate(settings)


@pytest.mark.parametrize(
    ("score", "by", "tokenizer"),
    [
        ({}, "ds", "words"),
        ({"scorer": "cohesion", "also": {"random": {}}}, "ds", "words"),
        ({"scorer": "longattn", "model": "/m"}, "lds", "/m"),
        (
            {"also": {"random": {}, "longattn": {}, "fargain": {"model": "/lm"}}},
            "ds",
            "data/scorer",
        ),
        ({"also": {"fargain": {"model": "/lm"}}}, "ds", "/lm"),
    ],
)
def test_what_is_left_out_follows_the_scorers(score: Any, by: str, tokenizer: str) -> None:
    """What ranks, and whose tokenizer cuts the windows; a config that says so is the same one."""
    found = config.validate({"score": score})
    assert (found.select.by, found.tokenizer_path) == (by, tokenizer)
    for said in ({"by": by}, {"by": None}, {}):
        assert config.validate({"score": score, "select": said}).hash == found.hash
    assert config.validate({"score": score, "tokenizer": "/t"}).tokenizer_path == "/t"


def test_a_model_that_nothing_reads_is_refused() -> None:
    message = refusal("score.model=/m")
    assert "score.model is given, and the default scorer, recall, reads none" in message
    assert config.load(None, ["score.model=/m", "score.scorer=recall"]).score.model == "/m"
    assert "the tokenizer words has none" in refusal("export.mds={path: out}")


def test_words_are_no_ids_to_train_with() -> None:
    message = refusal("tokenizer=words", "export.megatron={path: out}")
    assert "export.megatron is of token ids, and the tokenizer words has none" in message


@pytest.mark.parametrize("where", ["score.model", "tokenizer", "score.also.fargain.model"])
def test_what_workers_read_from_a_folder_lies_on_no_object_store(where: str) -> None:
    message = refusal(f"{where}=s3a://lake/scorer")
    assert f"config: {where}: workers read it from a folder; copy it to one" in message


def test_a_scorer_may_lie_on_a_volume() -> None:
    found = config.validate(
        {"score": {"scorer": "longattn", "model": "dbfs:/Volumes/c/s/v/scorer"}}
    )
    assert found.score.model == "/Volumes/c/s/v/scorer"


# --- YAML as people write it


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "c.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refusal_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_key_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    text = "sources:\n  book: [{path: a}]\n  news: [{path: b}]\n  book: [{path: c}]\n"
    assert "key 'book' twice, in lines 2 and 4" in refusal_of(written(tmp_path, text))
    text = "seed: 1\nwindow: {length: 64, length: 32}\n"
    assert "key 'length' twice, in lines 2 and 2" in refusal_of(written(tmp_path, text))


def test_a_merged_key_may_be_overridden(tmp_path: Path) -> None:
    text = """
    sources:
      a: [&books {path: x, text: body}]
      b: [&code {<<: *books, text: content}]
      c: [{<<: *code, path: y}]
    """
    loaded = config.load(written(tmp_path, text))
    (b,), (c,) = loaded.sources["b"], loaded.sources["c"]
    assert (b.path, b.text) == (["x"], "content")
    assert (c.path, c.text) == (["y"], "content")


@pytest.mark.parametrize("word", ["true_text", "Falsehood", "truth"])
def test_a_text_may_begin_like_a_switch(tmp_path: Path, word: str) -> None:
    """It ended in a KeyError: the pattern of true and false was looked for at the front alone."""
    text = f"sources: {{book: [{{path: a, text: {word}}}]}}"
    assert config.load(written(tmp_path, text)).sources["book"][0].text == word


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "null", "1984", "1e3", "~", "true"])
def test_any_word_is_a_domain(word: str, tmp_path: Path) -> None:
    text = f"sources:\n  {word}: [{{path: a}}]\nmix: {{weights: {{{word}: 1}}}}\n"
    loaded = config.load(written(tmp_path, text))
    assert list(loaded.sources) == [word] == list(loaded.mix.weights)


def test_norwegian_is_a_language_and_no_is_no(tmp_path: Path) -> None:
    text = "sources: {book: [{path: a, where: {lang: [no, en]}}]}\ndedup: {enabled: no}\n"
    loaded = config.load(written(tmp_path, text))
    assert loaded.sources["book"][0].where == {"lang": ["no", "en"]}
    assert loaded.dedup.enabled is False
    assert config.load(None, ["window.bos=on"]).window.bos is True


@pytest.mark.parametrize("text", ["2.5e6", "2.5E+6", "2500000", "2500000.0", "25e5"])
def test_numbers_may_have_exponents(text: str) -> None:
    loaded = config.load(None, [f"score.rope_theta={text}"])
    assert loaded.score.rope_theta == 2_500_000.0 and type(loaded.score.rope_theta) is float
    assert loaded.hash == config.load(None, ["score.rope_theta=2500000.0"]).hash


@pytest.mark.parametrize(("text", "seed"), [("010", 10), ("-08", -8), ("0o17", 15), ("0x1F", 31)])
def test_integers_are_those_of_yaml_1_2(text: str, seed: int) -> None:
    """010 was read as eight."""
    assert config.load(None, [f"seed={text}"]).seed == seed


@pytest.mark.parametrize("text", ["1:30", "1:30.5", "0b11", "1_000"])
def test_what_only_yaml_1_1_calls_a_number_is_refused(text: str) -> None:
    """1:30 was read as ninety."""
    assert f"got '{text}'" in refusal(f"seed={text}")
    assert f"got '{text}'" in refusal(f"score.rope_theta={text}")


def test_whole_numbers_may_have_exponents() -> None:
    loaded = config.load(None, ["select.tokens=1.5e9", "mix.tokens=5e9", "select.alpha=5e-1"])
    assert (loaded.select.tokens, loaded.mix.tokens) == (1_500_000_000, 5_000_000_000)
    assert type(loaded.select.tokens) is int and loaded.select.alpha == 0.5
    assert refusal("mix.tokens=1.5e-1").startswith("config: mix.tokens: ")


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "1e999"])
def test_a_number_is_finite(value: str) -> None:
    assert "finite number" in refusal(f"select.alpha={value}")


def test_a_distance_to_select_by_is_recalls() -> None:
    said = refusal("score={scorer: cohesion}", "select={distance: 1024}")
    assert "select.distance is of recall, and select.by is ds" in said
    for by in ("recall", "recall: 1.0, cohesion: 0.5"):
        loaded = config.load(
            None,
            [
                f"select={{by: {{{by}}}, distance: 1024}}"
                if ":" in by
                else f"select={{by: {by}, distance: 1024}}"
            ],
        )
        assert loaded.select.distance == 1024


def test_a_distance_of_the_whole_window_is_refused() -> None:
    assert "window.k: 64 is not below window.length, 64" in refusal("window={length: 64, k: 64}")
    assert config.load(None, ["window={length: 64, k: 63}"]).window.k == 63
    assert "below the shortest of mix.buckets, 16" in refusal(*BUCKETS, "window.k=16")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom"])
def test_a_file_in_unicode_is_read(encoding: str, tmp_path: Path) -> None:
    text = "sources: {日本: [{path: bücher}]}\n"
    data = text.encode(encoding.removesuffix("-bom"))
    data = b"\xff\xfe" + data if encoding.endswith("-bom") else data
    loaded = config.load(written(tmp_path, data))
    assert loaded.sources["日本"][0].path == ["bücher"]


def test_a_file_in_latin_1_is_refused_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "seed: 1\nsources: {b: [{path: bücher}]}\n".encode("latin-1"))
    assert refusal_of(path).endswith("byte 0xfc in line 2 is not utf-8: save it as UTF-8")


# --- domains are those of the sources

TWO = ["sources.book=[{path: a}]", "sources.wiki=[{path: b}]"]


@pytest.mark.parametrize(
    "override",
    [
        "mix.weights={boook: 1, wiki: 1}",
        "mix={boook: 30, wiki: 70}",
        "score.domains=[boook]",
        "pack.domains=[boook]",
        "window.min_tokens={boook: 9}",
        "window.max_tokens={boook: 9}",
        "ingest.min_tokens={boook: 9}",
        "ingest.max_tokens={boook: 9}",
        "select.fraction={boook: 0.5}",
        "select.tokens={boook: 9}",
        "select.percentile={boook: [50, 100]}",
        "select.threshold={boook: 0.5}",
    ],
)
def test_a_domain_that_no_source_has_is_refused(override: str) -> None:
    said = refusal(*TWO, override)
    assert said.startswith(f"config: {override.partition('=')[0].removesuffix('mix') or 'mix'}")
    assert said.endswith("boook is no domain of `sources` (did you mean 'book'?)")
    config.load(None, [*TWO, override.replace("boook", "book")])


def test_weights_of_another_corpus_say_so() -> None:
    said = refusal("sources.news=[{path: a}]", "mix.weights={arxiv: 30, book: 30, code: 30}")
    assert said == "config: mix.weights: arxiv is no domain of `sources` (there are: news)"


def test_a_selection_that_names_nothing_is_refused() -> None:
    assert "select.column: say which" in refusal("select.by=column")
    said = refusal("select.where=[{scorer: cohesoin, percentile: [0, 50]}]")
    assert said.endswith("is called cohesoin (did you mean 'cohesion'?)")


def test_weights_of_nothing_are_refused() -> None:
    assert "all are 0" in refusal(*TWO, "mix.weights={book: 0, wiki: 0}")
    assert config.load(None, [*TWO, "mix.weights={book: 0, wiki: 1}"])
    assert "select.by: all are 0" in refusal("select.by={recall: 0}")
    assert "select.distance: all are 0" in refusal("select={by: recall, distance: {1024: 0}}")


def test_cross_gain_is_asked_for_by_pack_score_alone() -> None:
    said = "cross_gain is of packed windows: say pack.score: true"
    assert said in refusal(*TWO, "score.scorer=cross_gain")
    assert said in refusal(*TWO, "score.also={cross_gain: {}}")
    assert "called cross_gain" in refusal(*TWO, "select.by=cross_gain")


def test_packing_at_random_may_be_said() -> None:
    """The word is the default's, so that windows packed before are these."""
    default, said = config.load(None, TWO), config.load(None, [*TWO, "pack.order=random"])
    assert said.pack.order is None and said.hash == default.hash
    assert Recipe(said).packing == Recipe(default).packing


@pytest.mark.parametrize("key", ["repository", "path"])
def test_a_field_that_no_packed_source_keeps_is_refused(key: str) -> None:
    pack = "pack={domains: [code, wiki], strategy: concat, order: repository, repository: repo}"
    sources = ["sources.code=[{path: a, meta: [repo, path]}]", "sources.wiki=[{path: b}]"]
    config.load(None, [*sources, pack, "pack.path=path"])
    said = refusal(*sources, pack, f"pack.{key}=pathh")
    assert said.startswith(f"config: pack.{key}: `meta` of no packed source has pathh (did you")
    said = refusal(*TWO, pack.replace("code", "book"))
    assert said == "config: pack.repository: `meta` of no packed source has repo"


def test_a_packed_domain_is_not_scored() -> None:
    assert "wiki: packed domains" in refusal(*TWO, "pack.domains=[wiki]", "score.domains=[wiki]")


@pytest.mark.parametrize("name", ["demo.yaml", "longabc-32k.yaml", "olmo3.yaml", "prolong.yaml"])
def test_the_configs_that_come_with_it_are_valid(name: str) -> None:
    assert config.load(Path(__file__).parents[2] / "conf" / name).sources


@pytest.mark.parametrize("domain", ["", "__HIVE_DEFAULT_PARTITION__"])
def test_a_domain_that_tables_keep_no_value_under_is_refused(domain: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a domain"):
        config.validate({"sources": {domain: [{"path": "a"}]}})


BUCKETS = ("window={length: 64, strategy: tile}", "mix.buckets={16: 0.25, 64: 0.75}")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ((*BUCKETS, "mix.buckets={16: 0.25, 64: 0.5}"), "mix.buckets: the shares sum to 0.75, not"),
        ((*BUCKETS, "window.length=128"), "longest has 64 tokens and window.length is 128: say"),
        ((*BUCKETS, "window.strategy=longattn"), "windows of strategy longattn overlap or leave"),
        ((*BUCKETS, "window.strategy=truncate"), "say window.strategy: tile, or whole"),
        ((*BUCKETS, "select.tokens=1000"), "with mix.buckets a domain's lengths are ranked apart"),
        ((*BUCKETS, "tokenizer=t", "export.megatron.path=m"), "export.megatron: its samples all"),
        (
            (*BUCKETS, "tokenizer=t", "export.numpy.path=n"),
            "export.numpy: its samples all have one",
        ),
        (("window.strategy=whole", "select.tokens=9"), "window.strategy: whole a domain's lengths"),
        ((*BUCKETS, "mix.buckets={4: 0.25, 64: 0.75}"), "greater than or equal to 8"),
        ((*BUCKETS, "mix.upsample_long={32: 0}"), "greater than 0"),
    ],
)
def test_what_several_lengths_do_not_go_with(overrides: tuple[str, ...], said: str) -> None:
    assert said in refusal(*overrides)


def test_lengths_and_the_bounds_between_them() -> None:
    one = config.load(None, ["window.length=64"])
    several = config.load(None, BUCKETS)
    whole = config.load(None, [*BUCKETS, "window.strategy=whole"])
    octaves = config.load(None, ["window={strategy: whole, length: 24}"])
    assert [(c.lengths, c.bounds) for c in (one, several, whole, octaves)] == [
        ((64,), ()),
        ((16, 64), (16, 64)),
        ((64,), (16, 64)),
        ((24,), (1, 2, 4, 8, 16, 24)),
    ]
    assert (
        config.load(None, ["mix.buckets={}", "mix.upsample_long={}"]).hash == config.Config().hash
    )


# What would end a job after hours of work is refused before any: what is given, and what is said.
HOPELESS = {
    "percentile.web": ("select.percentile={web: [50, 20]}", "select.percentile.web: expected [fr"),
    "percentile": ("select.percentile=[0, 101]", "select.percentile: expected [from, to]"),
    "one bound": ("select.percentile=[50]", "select.percentile: expected [from, to]"),
    "filter": ("select.where=[{scorer: recall, percentile: [9, 9]}]", "percentile: expected [from"),
    "fraction": ("select.fraction={web: 0}", "select.fraction.web: input should be greater than 0"),
    "column": ("select.by=column", "select.column: say which, as measures.key"),
    "seed": (f"seed={1 << 63}", "seed: input should be an integer of 64 bits"),
    "budget": (f"select.tokens={1 << 63}", "select.tokens: input should be an integer of 64 bits"),
    "priority": ("sources={web: [{path: a, priority: 2147483648}]}", "an integer of 32 bits"),
    "window": ("window={min_tokens: 9, max_tokens: 8}", "window.min_tokens: 9 is above window.max"),
    "ingest": ("ingest={min_tokens: {web: 9}, max_tokens: 8}", "no document of web would be left"),
    "bytes": (
        f"ingest.max_bytes={(1 << 30) + 1}",
        "ingest.max_bytes: input should be less than or equal to 1073741824",
    ),
    "no path": ("sources={web: [{path: ''}]}", "a path must not be empty"),
    "no paths": (
        "decontaminate.sources=[{path: []}]",
        "decontaminate.sources.0.path: name at least one path, or leave the source out",
    ),
    "NUL": ('report.path="a\\0b"', "report.path: a path must not be empty, and holds no NUL"),
    "no names": ("score.also=[{path: a}]", "score.also: input should be a valid dict"),
    "no root": ("tables.root=''", "tables.root: a path must not be empty"),
    "no folder": ("select.name=__HIVE_DEFAULT_PARTITION__", "select.name: tables have a folder of"),
    "long folder": (f"select.name={'x' * 241}", "select.name: tables have a folder of its name"),
    "two lines": (
        'select.name="a\\nb"',
        "select.name: tables have a folder of its name, which has",
    ),
    "long file": (f"export.jsonl={{path: m, prefix: {'x' * 201}}}", "it begins names of files"),
    "no variable": ("tables.root=${NO_SUCH_VARIABLE}/x", "NO_SUCH_VARIABLE is not set"),
}


@pytest.mark.parametrize("name", HOPELESS)
def test_values_that_end_a_job_are_refused_before_it(name: str) -> None:
    given, said = HOPELESS[name]
    overrides = ["sources={web: [{path: a}]}", given]
    with pytest.raises(ConfigError, match=re.escape(said)):
        config.load(None, overrides)
    assert len(config.faults("/dev/null", overrides)) == 1


@pytest.mark.parametrize("domain", ["a\nb", "a\0b", "\ud800", "x" * 300, "\u6587" * 30])
def test_a_domain_that_is_no_folders_name_is_refused(domain: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a domain") as refused:
        config.validate({"sources": {domain: [{"path": "a"}]}})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("domain", ["a/b", "..", "a b", "x" * 240, "\u6587" * 20, "a'b\"c", "%2F"])
def test_other_names_are_domains(domain: str) -> None:
    assert config.validate({"sources": {domain: [{"path": "a"}]}})


def test_what_python_has_and_yaml_has_not_is_read() -> None:
    """Paths, tuples, and numbers, keys and arrays of numpy."""
    given = {
        "sources": {"book": ({"path": Path("a"), "meta": ("year",)},)},
        "tables": {"root": Path("/root")},
        "window": {"length": np.int64(64), "strategy": "tile"},
        "select": {"fraction": np.float32(0.5), "percentile": (np.float64(5), 95)},
        "mix": {"buckets": {np.int64(16): 0.5, 64: 0.5}},
        "score": {"scorer": "longattn", "model": Path("m"), "layers": np.array([0, 3])},
    }
    plain = {
        "sources": {"book": [{"path": ["a"], "meta": ["year"]}]},
        "tables": {"root": "/root"},
        "window": {"length": 64, "strategy": "tile"},
        "select": {"fraction": 0.5, "percentile": [5.0, 95]},
        "mix": {"buckets": {16: 0.5, 64: 0.5}},
        "score": {"scorer": "longattn", "model": "m", "layers": [0, 3]},
    }
    assert config.validate(given) == config.validate(plain)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("select={by: column, column: doc_token}", "to rank by: doc_token (did you mean 'doc_tok"),
        ("select={by: column, column: measures.}", "select.column: no column of scores to rank by"),
        ("select={by: column, column: window_id}", "select.column: no column of scores to rank by"),
        ("select={by: length, column: n_tokens}", "select.column: it is said with by: column, and"),
        ("select.column=n_tokens", "select.column: it is said with by: column, and with no other"),
        ("select.by={lds: 1, recall: 1}", "lds is a ranking, which has no scores of its own"),
        ("select.where=[{scorer: length, percentile: [0, 9]}]", "length is a ranking, which has"),
        ("select.by={lengths: 1}", "is called lengths (there are: calibrated, cohesion"),
        ("select.by=lengths", "is called lengths (did you mean 'length'?)"),
        (
            "score={scorer: recall, also: {recall: {k: 64}}}",
            "score.also.recall: it is score.scorer, whose settings stand in score",
        ),
        (
            "sources.book=[{path: a, text: b, text_field: c}]",
            "config: sources.book.0: text and text_field are one setting: say one",
        ),
        ("sources.book=[{path: a, id: b, id_field: b}]", "id and id_field are one setting"),
    ],
)
def test_settings_that_would_be_passed_over_are_refused(given: str, said: str) -> None:
    assert said in refusal(given)


def test_all_numbers_of_scores_can_be_ranked_by() -> None:
    numbers = [name for name, (type_, _) in SCORES.columns.items() if type_ in ("int", "double")]
    for column in (*numbers, "doc_tokens", "window_tokens", "measures.ratio", "measures.gain_D"):
        loaded = config.load(None, [f"select={{by: column, column: {column}}}"])
        assert loaded.select.column == column


def test_a_setting_below_no_mapping_drops_nothing(tmp_path: Path) -> None:
    """The rest of the list, or the number for all, was gone without a word."""
    path = written(tmp_path, "score: {also: [cohesion, compress]}\ningest: {min_tokens: 100}\n")
    loaded = config.load(path, ["score.also.compress.k=64"])
    assert {name: one.k for name, one in loaded.score.also.items()} == {
        "cohesion": None,
        "compress": 64,
    }
    with pytest.raises(ConfigError) as error:
        config.load(path, ["ingest.min_tokens.book=200"])
    said = "--set ingest.min_tokens.book=200: ingest.min_tokens is no mapping; set it as a whole"
    assert str(error.value) == said
    empty = written(tmp_path, "ingest:\n")
    assert config.load(empty, ["ingest.min_tokens.book=200"]).ingest.min_tokens == {"book": 200}


def test_a_config_without_a_name_is_not_the_defaults() -> None:
    """As `--config "$CONFIG"` is where nobody has set it: `vacuum` would take another root."""
    for load in (config.load, lambda path: longattn.run(path)):
        with pytest.raises(ConfigError, match="--config is empty: name a file"):
            load("")
    assert config.load(None) == config.Config()
