"""Fingerprints: estimates against brute-force Jaccard, banding against its formula, memory."""

import hashlib
import subprocess
import sys
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longattn.udfs.errors import ConfigError
from longattn.udfs.text import minhash as m

BANDS, ROWS = m.choose_bands(0.8, 128)
MINHASH = m.MinHash(ngram=5, permutations=128, bands=BANDS, rows=ROWS)


def random_words(rng, count):
    return [f"w{i}" for i in rng.integers(0, 1 << 30, count)]


def pair_of_texts(rng, edits, length=2000):
    """Two texts that differ in `edits` words, and the true Jaccard of their word 5-grams."""
    words = random_words(rng, length)
    other = list(words)
    for i in rng.choice(length, edits, replace=False):
        other[i] = "edited"
    return " ".join(words), " ".join(other), brute_jaccard(words, other)


def brute_jaccard(a, b, n=5):
    grams_a, grams_b = ({tuple(x[i : i + n]) for i in range(len(x) - n + 1)} for x in (a, b))
    return len(grams_a & grams_b) / len(grams_a | grams_b)


def estimate(a, b):
    signatures = [m.fingerprint(text, MINHASH).signature.tobytes() for text in (a, b)]
    return m.estimate([signatures[0]], [signatures[1]])[0]


@pytest.mark.parametrize("edits", [0, 20, 45, 100, 200])
def test_signature_estimates_jaccard_without_bias(edits):
    rng = np.random.default_rng(edits)
    errors = []
    for _ in range(60):
        a, b, truth = pair_of_texts(rng, edits)
        errors.append(estimate(a, b) - truth)
    sigma = np.sqrt(truth * (1 - truth) / MINHASH.permutations)
    assert abs(np.mean(errors)) <= 4 * sigma / np.sqrt(len(errors))
    assert np.std(errors) <= 1.5 * sigma


def test_pairs_share_a_band_as_often_as_the_s_curve_says():
    rng = np.random.default_rng(5)
    found, expected, trials = 0, 0.0, 150
    for _ in range(trials):
        a, b, truth = pair_of_texts(rng, edits=110)
        bands = [set(m.fingerprint(text, MINHASH).bands.tolist()) for text in (a, b)]
        found += bool(bands[0] & bands[1])
        expected += m.s_curve(truth, BANDS, ROWS)
    assert 0.3 < expected / trials < 0.9
    assert abs(found - expected) <= 4 * np.sqrt(trials) / 2


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_chosen_bands_keep_the_recall_and_one_more_row_would_not(threshold):
    bands, rows = m.choose_bands(threshold, 128)
    assert bands * rows <= 128
    assert m.s_curve(threshold, bands, rows) >= m.RECALL
    if rows < 128:
        assert m.s_curve(threshold, 128 // (rows + 1), rows + 1) < m.RECALL


def test_too_few_permutations_are_refused_with_the_recall_they_give():
    with pytest.raises(ConfigError, match=r"permutations: 4 find 94% of pairs at threshold 0\.5"):
        m.choose_bands(0.5, 4)


def test_the_recipe_names_every_parameter():
    changes = {"ngram": 6, "permutations": 64, "bands": 9, "rows": 8, "seed": 1}
    values = {**MINHASH.__dict__}
    names = {MINHASH.recipe} | {m.MinHash(**{**values, k: v}).recipe for k, v in changes.items()}
    assert len(names) == 1 + len(changes)


def test_text_hash_is_that_of_the_normalised_text():
    expected = hashlib.sha256("the quick straße".replace("ß", "ss").encode()).hexdigest()
    for text in ("the quick straße", "  The\n\nQUICK\tStraße ", "the quick STRASSE"):
        assert m.fingerprint(text, MINHASH).text_hash == expected


@pytest.mark.parametrize("text", ["", "   \n", "four words are few", "=====" * 1000])
def test_a_text_too_short_for_a_shingle_has_no_bands(text):
    """So that no two of them meet in a band (text-dedup#77)."""
    print_ = m.fingerprint(text, MINHASH)
    assert (print_.n_shingles, len(print_.bands), len(print_.signature)) == (0, 0, 0)


def test_signature_of_many_pieces_is_that_of_the_set_of_shingles():
    rng = np.random.default_rng(1)
    words = random_words(rng, 30_000)  # about five pieces
    repeated = " ".join(words + words)
    shuffled = m.fingerprint(repeated, MINHASH).signature
    seam = " ".join(words + words[:4])  # the only new n-grams are those across the seam
    assert np.array_equal(shuffled, m.fingerprint(seam, MINHASH).signature)


def test_band_hashes_differ_between_places():
    """The same rows in another band are another band."""
    signature = np.tile(np.arange(ROWS, dtype=np.uint32), 128 // ROWS + 1)[:128]
    assert len(set(m.band_hashes(signature, MINHASH).tolist())) == BANDS


def test_fingerprints_are_the_same_in_another_process():
    code = (
        "from longattn.udfs.text import minhash as m;"
        f"print(m.fingerprint('a b c d e f g', m.{MINHASH!r}).bands.tolist())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == str(m.fingerprint("a b c d e f g", MINHASH).bands.tolist())


def test_no_pairs_have_no_estimates():
    assert m.estimate([], []).tolist() == []


@given(st.sets(st.integers(0, 60), min_size=1), st.sets(st.integers(0, 60), min_size=1))
def test_jaccard_of_whole_sketches_is_exact(a, b):
    arrays = (np.array(sorted(s), np.uint64) for s in (a, b))
    assert m.jaccard(*arrays) == pytest.approx(len(a & b) / len(a | b))


def test_jaccard_of_cut_sketches_is_within_its_standard_error():
    rng = np.random.default_rng(2)
    values = rng.integers(0, 1 << 63, 50_000, dtype=np.uint64)
    a, b = np.sort(values[:45_000])[:1024], np.sort(values[5_000:])[:1024]
    assert m.jaccard(a, b, size=1024) == pytest.approx(0.8, abs=4 * np.sqrt(0.16 / 1024))


@pytest.mark.parametrize("edits", [0, 30, 100])
def test_sketches_measure_the_true_jaccard(edits):
    a, b, truth = pair_of_texts(np.random.default_rng(edits), edits)
    sketches = pa.table(
        {"doc_id": ["a", "b"], "sketch": [m.sketch(t, 5).tobytes() for t in (a, b)]}
    )
    measured = m.measure_pairs(pa.table({"doc_a": ["a"], "doc_b": ["b"]}), sketches)
    assert measured["similarity"].to_pylist() == [pytest.approx(truth)]


def test_batches_keep_other_columns_and_replace_the_text():
    batch = pa.RecordBatch.from_pydict({"doc_id": ["a", "b"], "text": ["x " * 10, ""]})
    (out,) = m.fingerprint_batches(iter([batch]), MINHASH)
    assert out.schema.names == ["doc_id", "text_hash", "n_shingles", "bands", "signature"]
    assert [len(s) for s in out.column("signature").to_pylist()] == [4 * 128, 0]
    (out,) = m.sketch_batches(iter([batch]), 5)
    assert [len(s) for s in out.column("sketch").to_pylist()] == [8, 0]


@pytest.mark.parametrize("unit", ["word{} ", "x{}"])
def test_memory_is_bounded_for_a_document_of_sixteen_megabytes_on_one_line(unit):
    text = "".join(map(unit.format, range((1 << 24) // len(unit.format(1_000_000)))))
    m.fingerprint("warm up a b c d e", MINHASH)
    tracemalloc.start()
    print_ = m.fingerprint(text, MINHASH)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert print_.n_shingles > 500_000
    assert peak < 20 << 20
