"""Config: what is accepted, and what one line says about what is not."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longattn.etl import config
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


def test_words_are_no_ids_to_train_with() -> None:
    message = refusal("tokenizer=words", "export.megatron={path: out}")
    assert "export.megatron is of token ids, and the tokenizer words has none" in message
