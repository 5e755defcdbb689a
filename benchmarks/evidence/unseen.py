"""Documents that no setting of a scorer was chosen on: novels, TeX manuals and code files."""

import gzip
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.evidence.corpus import Tokens, tokenized

R_HEADER = 14  # bytes of a serialised R object, before the name of its encoding
R_STRINGS = 16  # the type of a character vector


def unseen_documents(packages: Path, tokenizer: Tokenizer) -> dict[str, dict[str, Tokens]]:
    """Token ids by domain and name, of the packages that `bin/fetch_demo.py --unseen` fetches.

    A domain whose package could not be fetched is left out.
    """
    readers = {
        "novels": _novels(packages / "r-cran-janeaustenr"),
        "TeX manuals": _tex(packages / "texlive-science-doc"),
        "code": _code(packages),
    }
    found = {domain: tokenized(texts, tokenizer) for domain, texts in readers.items()}
    return {domain: documents for domain, documents in found.items() if documents}


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
