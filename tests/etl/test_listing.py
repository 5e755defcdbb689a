"""Listing local files: every name is read or refused with its reason, whatever it is made of."""

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import example, given, settings
from hypothesis import strategies as st

from longattn.etl.before.probe import look_at
from longattn.etl.config import SourceConfig, validate
from longattn.etl.ingest import listing
from longattn.etl.ingest.listing import list_all, list_files
from longattn.etl.ingest.local_files import IGNORED_FILES, Listed, list_local
from longattn.etl.ingest.own import OwnFiles
from longattn.etl.ingest.reading import Plan, by_reader
from longattn.etl.ingest.remote_files import Folders
from longattn.etl.ingest.sources import partition_values, specs_of, wanted_by
from longattn.etl.ingest.stage import SourceFile
from longattn.etl.tables.locations import is_catalog_name, is_table_name
from longattn.etl.windows.evaluation import list_sets
from longattn.udfs.documents.formats import SourceSpec
from longattn.udfs.errors import SourceError
from longattn.udfs.storage import file_name

NO_SPARK: Any = None  # local files are listed without
A_SESSION: Any = object()  # that nobody asks


def anything(_uri: str, _name: str) -> bool:
    return True


def listed(*paths: object) -> dict[str, str | None]:
    """Name -> reason of refusal, None for files to read."""
    found = list_local([str(path) for path in paths], anything)
    return {file.name: file.refusal and file.refusal[0] for file in found}


@pytest.mark.parametrize("glob", ["*.jsonl", "/data/b/*.jsonl", "file:/data/b/*l", "x.jsonl"])
def test_include_and_exclude_are_globs_of_a_name_a_path_or_a_uri(glob: str) -> None:
    """`check` and ingest ask the same function."""
    for field, left in (("include", True), ("exclude", False)):
        source = SourceConfig.model_validate({"path": "/data/b", field: [glob]})
        assert wanted_by(source, "file:/data/b/x.jsonl", "x.jsonl") is left
        assert wanted_by(source, "file:/data/b/x.txt.gz", "y.txt.gz") is not left


def put(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_names_that_spark_hides_are_read(tmp_path: Path) -> None:
    names = [
        "__init__.py",
        "_pydecimal.py",
        "_part-000.jsonl",
        ".dot",
        "_dir/a",
        ".github/b",
        "a:b",
    ]
    for name in names:
        put(tmp_path / name)
    assert listed(tmp_path) == dict.fromkeys(names)
    assert listed(tmp_path / "*.py") == dict.fromkeys(["__init__.py", "_pydecimal.py"])
    assert listed(tmp_path / "_part-000.jsonl") == {"_part-000.jsonl": None}
    assert listed(tmp_path / "a:*") == {"a:b": None}


def test_what_programs_leave_is_ignored_unless_it_is_named(tmp_path: Path) -> None:
    left = ["_SUCCESS", ".part-0.crc", "_manifest.json", "_delta_log/0.json", ".git/HEAD"]
    for name in [*left, "data", "_delta_log.txt"]:
        put(tmp_path / name)
    assert listed(tmp_path) == dict.fromkeys(["data", "_delta_log.txt"])
    assert listed(tmp_path / "*") == dict.fromkeys(["data", "_delta_log.txt"])
    assert listed(tmp_path / "_SUCCESS") == {"_SUCCESS": None}
    assert all(f"`{name}`" in LAPTOP for name in IGNORED_FILES)


LAPTOP = (Path(__file__).resolve().parents[2] / "docs" / "laptop.md").read_text(encoding="utf-8")


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    put(tmp_path / "a")
    put(tmp_path / "empty", b"")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "self").symlink_to("self")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(tmp_path / "socket"))
    assert listed(tmp_path) == {
        "a": None,
        "empty": "empty_file",
        "gone": "dangling_link",
        "self": "unreadable",
        "pipe": "not_a_file",
        "socket": "not_a_file",
    }


def test_a_file_without_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "a")
    put(tmp_path / "closed/b")
    access, listdir = os.access, os.listdir
    monkeypatch.setattr(os, "access", lambda p, m: p[-2:] != b"/a" and access(p, m))

    def closed(path: bytes) -> list[bytes]:
        if path.endswith(b"closed"):
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", closed)
    assert listed(tmp_path) == {"a": "unreadable", "closed": "unreadable"}


def test_a_link_to_its_own_folder_multiplies_nothing(tmp_path: Path) -> None:
    for name in ("a", "b", "sub/c"):
        put(tmp_path / name)
    (tmp_path / "sub" / "loop").symlink_to("..")
    (tmp_path / "again").symlink_to("sub")
    files = {"a": None, "b": None, "sub/c": None}
    assert listed(tmp_path) == files | {"sub/loop": "same_folder", "again": "same_folder"}


def test_a_file_is_read_under_one_of_its_names_and_first_under_its_own(tmp_path: Path) -> None:
    put(tmp_path / "z.jsonl")
    (tmp_path / "a.jsonl").symlink_to("z.jsonl")
    os.link(tmp_path / "z.jsonl", tmp_path / "hard.jsonl")
    expected = {"z.jsonl": None, "hard.jsonl": None, "a.jsonl": "same_file"}
    assert listed(tmp_path) == expected == listed(tmp_path / "*.jsonl")
    assert listed(tmp_path / "a.jsonl") == {"a.jsonl": None}


def test_a_link_is_followed_where_its_target_is_not_wanted(tmp_path: Path) -> None:
    """A hub's cache: names are links to blobs."""
    put(tmp_path / "blobs" / "5f2a")
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "a.parquet").symlink_to("../blobs/5f2a")
    found = list_local([str(tmp_path)], lambda _, name: name.endswith(".parquet"))
    assert [(file.name, file.refusal) for file in found] == [("snapshots/a.parquet", None)]


def test_names_that_are_no_utf8_are_read(tmp_path: Path) -> None:
    put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xfccher 5%.txt")), b"latin")
    put(tmp_path / "büche.txt")
    found = {file.name: file for file in list_local([str(tmp_path)], anything)}
    assert set(found) == {"b%FCcher 5%25.txt", "büche.txt"}
    uri = found["b%FCcher 5%25.txt"].uri
    uri.encode()  # a table holds it
    path = file_name(uri)
    assert path is not None
    with open(path, "rb") as file:
        assert file.read() == b"latin"


def test_an_escaped_name_that_another_file_has_is_refused(tmp_path: Path) -> None:
    put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xfc")), b"latin")
    put(tmp_path / "b%FC")
    found = list_local([str(tmp_path)], anything)
    assert sorted(file.refusal[0] if file.refusal else "" for file in found) == [
        "",
        "ambiguous_name",
    ]


@pytest.mark.parametrize("is_link", [False, True])
def test_the_file_that_another_one_is_called_as_is_read(is_link: bool, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    put(folder / "b%FC")
    other = Path(os.fsdecode(os.fsencode(folder) + b"/b\xfc"))
    if is_link:
        other.symlink_to("gone")
    else:
        put(other, b"latin")
    ((spec, source),) = specs_of(validate({"sources": {"d": [{"path": str(folder)}]}}))
    files = list_files(NO_SPARK, 0, spec, source)
    why = "dangling_link" if is_link else "ambiguous_name"
    expected = {f"file:{folder}/b%FC": None, f"file:{folder}/b\\xfc": why}
    assert {file.uri: file.refusal and file.refusal[0] for file in files} == expected
    look = look_at("sources.d", source, spec, OwnFiles(validate({})))
    assert [file.uri for file in look.files] == [f"file:{folder}/b%FC"]


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8", "en_US.ISO-8859-1"])
def test_the_locale_changes_nothing(locale: str, tmp_path: Path) -> None:
    for name in ("ü.txt", "日本/a.txt"):
        put(tmp_path / name)
    code = (
        "import sys; from longattn.etl.ingest.local_files import list_local;"
        "from longattn.udfs.storage import file_name;"
        "found = list_local([sys.argv[1].replace('@', chr(0x65E5)), sys.argv[2]], lambda *_: True);"
        "sizes = [len(open(file_name(file.uri), 'rb').read()) for file in found];"
        "print(ascii([file.name for file in found]), sizes)"
    )
    command = [sys.executable, "-c", code, f"{tmp_path}/@*", str(tmp_path)]
    environment = os.environ | {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "['\\u65e5\\u672c/a.txt', '\\xfc.txt'] [1, 1]\n"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.txt", ["a.txt", "b.txt"]),
        ("{a,b}.txt", ["a.txt", "b.txt"]),
        ("[!a].txt", ["b.txt"]),
        ("[^a].txt", ["b.txt"]),
        ("[a-b].t?t", ["a.txt", "b.txt"]),
        ("*/c.txt", ["x/c.txt"]),
        ("{x,y/z}/*.txt", ["x/c.txt", "y/z/d.txt"]),
        ("**/*.txt", ["a.txt", "b.txt", "x/c.txt", "y/z/d.txt"]),
        ("y/**", ["z/d.txt"]),
        ("y", ["z/d.txt"]),
        ("y/", ["z/d.txt"]),
        ("?", ["x/c.txt", "y/z/d.txt"]),
        ("e [1].csv", ["e [1].csv"]),
        (r"e \[1\].*", ["e [1].csv"]),
    ],
)
def test_globs(pattern: str, names: list[str], tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "x/c.txt", "y/z/d.txt", "e [1].csv"):
        put(tmp_path / name)
    assert sorted(listed(f"{tmp_path}/{pattern}")) == names


@pytest.mark.parametrize("pattern", ["**", "**/**", "{**,a/**}"])
def test_a_glob_of_all_folders_walks_each_once(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("1", "a/2", "a/b/3", "a/b/c/4", "d/5"):
        put(tmp_path / name)
    walked: Counter[bytes] = Counter()
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: walked.update([path]) or listdir(path))
    found = list_local([f"{tmp_path}/{pattern}"], anything)
    monkeypatch.undo()
    files = [path for path in tmp_path.glob("**/*") if path.is_file()]
    assert sorted(file.uri for file in found) == sorted(f"file:{path}" for path in files)
    below = [path for path in walked if path.startswith(os.fsencode(tmp_path))]
    assert len(below) == 5 and max(walked[path] for path in below) <= pattern.count("*")


def test_a_folder_that_is_named_is_read_with_all_below_it(tmp_path: Path) -> None:
    for name in (".git/HEAD", ".git/refs/a", "_delta_log/0.json"):
        put(tmp_path / name)
    files = {"HEAD": None, "refs/a": None}
    assert listed(tmp_path / ".git/**") == listed(tmp_path / ".git") == files
    assert listed(tmp_path / "**") == {}


@pytest.mark.parametrize("name", ["a{1.txt", "x[z-a].txt", "b{,", "{[z-a]"])
def test_a_file_whose_name_is_no_glob_is_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"brace at character|no pattern of names"):
        listed(tmp_path / name)
    put(tmp_path / name)
    put(tmp_path / "other.txt")
    assert listed(tmp_path / name) == {name: None}


def test_a_path_or_a_glob_that_names_nothing_is_an_error(tmp_path: Path) -> None:
    for pattern in ("gone", "*.txt", "gone/*"):
        with pytest.raises(FileNotFoundError):
            listed(tmp_path / pattern)
    with pytest.raises(SourceError, match=r"\[z-a\]\*: no pattern of names: bad character range"):
        listed(tmp_path / "[z-a]*")
    with pytest.raises(SourceError, match="brace at character"):
        listed(tmp_path / "{a,b")


# --- any tree: every name is accounted for, every file is read once

PIECES = ["a", "_b", ".c", "ü", "日", "x y", "100%", "%FC", "a:b", "[1]", "{x}", "*", "\n", "\\"]
NAMES = st.one_of(
    st.sampled_from([piece.encode() for piece in PIECES]),
    st.binary(min_size=1, max_size=4).filter(
        lambda b: not set(b) & {0, 47} and b not in (b".", b"..")
    ),
)
FILES = st.tuples(st.lists(NAMES, min_size=1, max_size=3), st.integers(0, 2))
LINKS = st.tuples(st.lists(NAMES, min_size=1, max_size=2), st.integers(0, 99))


@settings(deadline=None, max_examples=100)
# a link into a folder below the one that a second link, in there, leads to
@example(files=[([b"a"], 0)], links=[([b"\x01"], 24), ([b"\x01", b"a"], 2)], by_glob=False)
@given(files=st.lists(FILES, max_size=8), links=st.lists(LINKS, max_size=6), by_glob=st.booleans())
def test_files_read_and_files_refused_are_the_files_there(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[tuple[list[bytes], int]],
    links: list[tuple[list[bytes], int]],
    by_glob: bool,
) -> None:
    root = os.fsencode(tmp_path_factory.mktemp("tree")) + b"/root"
    make_tree(root, files, links)
    found = (
        list_local([os.fsdecode(root) + ("/*" if by_glob else "")], anything)
        if (os.listdir(root) or not by_glob)
        else []
    )
    assert len({file.uri for file in found}) == len(found)
    assert all(file.uri.encode() for file in found)

    entries, reachable = names_and_contents(root)
    assert len(found) == len(entries)
    read = [file for file in found if file.refusal is None]
    contents = [os.path.realpath(file_name(file.uri) or b"") for file in read]
    lost = Counter(file.refusal[0] for file in found if file.refusal)
    assert len(set(contents)) == len(contents)
    empty = {path for path in reachable if not os.path.getsize(path)}
    unclear = lost["ambiguous_name"]
    assert set(contents) <= reachable - empty
    assert len(contents) == len(reachable - empty) - unclear
    assert set(lost) <= {
        *("empty_file", "dangling_link", "unreadable"),  # a link to itself
        *("same_file", "same_folder", "ambiguous_name"),
    }


def make_tree(
    root: bytes, files: list[tuple[list[bytes], int]], links: list[tuple[list[bytes], int]]
) -> None:
    """Files of 0 to 2 bytes, then links.

    They lead to files and folders of the tree, to its top, to nothing, to themselves and outside.
    """
    os.makedirs(root)
    outside = os.path.join(os.path.dirname(root), b"outside")
    os.makedirs(outside + b"/deep")
    for name in (b"/1", b"/deep/2"):
        with open(outside + name, "wb") as file:
            file.write(b"outside")
    targets = [b"nowhere", root, outside, outside + b"/deep"]
    for parts, size in files:
        path = os.path.join(root, *parts)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "xb") as file:
                file.write(b"x" * size)
        except OSError:  # a file where a folder should be, or the other way round
            continue
        targets += [path, os.path.dirname(path)]
    for parts, choice in links:
        path = os.path.join(root, *parts)
        target = [*targets, path][choice % (len(targets) + 1)]
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.symlink(target, path)
        except OSError:
            continue


def names_and_contents(root: bytes) -> tuple[list[bytes], set[bytes]]:
    """Names that must be told of, and the real files there: by the rules, with os.walk alone.

    A link counts as a name, unless it is the first to lead to a folder not met yet. So does
    a folder that a link has led to before.
    """
    names: list[bytes] = []
    reachable: set[bytes] = set()
    met: set[bytes] = set()
    queue, links = [root], []
    while queue or links:
        if not queue:
            links.sort()
            link = links.pop(0)
            if os.path.isdir(link) and os.path.realpath(link) not in met:
                queue.append(link)
            else:
                names.append(link)
                if os.path.isfile(link):
                    reachable.add(os.path.realpath(link))
            continue
        for folder, subfolders, plain in os.walk(queue.pop()):
            met.add(os.path.realpath(folder))
            known = [s for s in subfolders if os.path.realpath(os.path.join(folder, s)) in met]
            again = [s for s in known if not os.path.islink(os.path.join(folder, s))]
            names += [os.path.join(folder, name) for name in again]
            subfolders[:] = [name for name in subfolders if name not in again]
            every = [os.path.join(folder, name) for name in [*subfolders, *plain]]
            links += [path for path in every if os.path.islink(path)]
            here = [p for p in every if os.path.isfile(p) and not os.path.islink(p)]
            names += here
            reachable |= {os.path.realpath(path) for path in here}
    return names, reachable


def test_a_listing_says_size_and_time(tmp_path: Path) -> None:
    path = put(tmp_path / "a", b"12345")
    os.utime(path, ns=(0, 4_000_000_000_123_456_789))
    (found,) = list_local([str(path)], anything)
    assert found == Listed(f"file:{path}", 5, 4_000_000_000_123, "a")


def test_an_edit_that_sets_the_time_back_is_seen(tmp_path: Path) -> None:
    path, before = put(tmp_path / "a", b"12345"), 1_700_000_000_000_000_000
    os.utime(path, ns=(0, before))
    (listed,) = list_local([str(path)], anything)
    while path.stat().st_ctime_ns // 1_000_000 == listed.modified:  # clocks of inodes tick slowly
        path.write_bytes(b"54321")
        os.utime(path, ns=(0, before))
    (again,) = list_local([str(path)], anything)
    assert (again.n_bytes, path.stat().st_mtime_ns) == (5, before)
    assert again.modified > listed.modified


@pytest.mark.parametrize(
    ("path", "table"),
    [
        ("schema.table", True),
        ("my-catalog.2024-05.crawl-1", True),
        ("a.b.c.d", False),
        ("./table.v1", False),
        ("s3://bucket/a.b", False),
        ("-.b", False),
    ],
)
def test_names_of_tables_have_the_letters_that_roots_have(path: str, table: bool) -> None:
    assert is_table_name(path) is table
    assert not table or path.count(".") != 1 or is_catalog_name(path)


def test_files_go_to_their_readers_without_being_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparing each of 50,000 files with the others takes minutes."""
    uris = ["file:/d/a.jsonl", "s3://bucket/b.jsonl", "my-catalog.s.t", "file:/d/c.jsonl"]
    specs = [
        SourceSpec(domain="d", source="d", format=format_, text="text")
        for format_ in ("jsonl", "jsonl", "delta", "jsonl")
    ]
    files = [
        SourceFile(uri=uri, n_bytes=1, spec=number, name="", fingerprint="", refusal=refusal)
        for number, (uri, refusal) in enumerate(zip(uris, [None] * 3 + [("r", "")], strict=True))
    ]
    monkeypatch.delattr(SourceFile, "__eq__")
    read = by_reader(Plan(specs=specs, pending=files, n_finished=0))
    here, away, table, refused = ([file] for file in files)
    assert dict(read) == {"python": here, 1: away, "table": table, "refused": refused}


def test_folders_of_a_partitioned_table_give_its_column() -> None:
    spec = SourceSpec(
        domain="d", source="d", format="parquet", text="text", meta=("lang", "n"), where={"y": ()}
    )
    name = "lang=e%20n/y=2024/other=1/n=__HIVE_DEFAULT_PARTITION__/part.parquet"
    values = {"lang": "e n", "y": "2024", "n": None}
    assert json.loads(partition_values(name, spec) or "") == values
    assert partition_values("other=1/lang=en.parquet", spec) is None
    jsonl = SourceSpec(domain="d", source="d", format="jsonl", text="text", meta=("lang",))
    assert partition_values("lang=en/a.jsonl", jsonl) is None


@pytest.mark.parametrize("by_link", [False, True])
def test_what_jobs_have_written_is_known_through_links(tmp_path: Path, by_link: bool) -> None:
    """The config names the root by one way, the source's folder by another."""
    (tmp_path / "link").symlink_to(tmp_path)
    root = tmp_path / "link" / "out" if by_link else tmp_path / "out"
    config = validate(
        {
            "tables": {"root": str(root / "tables")},
            "export": {"jsonl": {"path": str(root / "j")}},
            "report": {"path": str(root / "report.html")},
        }
    )
    own = OwnFiles(config)
    written = ("out/tables/documents/a.parquet", "out/j/a.jsonl", "out/report.html")
    for place in (tmp_path, tmp_path / "link"):
        assert all(own.has(f"file:{place}/{name}") for name in written)
        others = ("a.parquet", "out/tables2/a.parquet", "out/j.jsonl", "out/other.html")
        assert not any(own.has(f"file:{place}/{name}") for name in others)
    assert own.left_out.total() == 6


def test_exports_of_others_and_staging_are_left_out_and_counted(tmp_path: Path) -> None:
    """A killed run leaves its staging beside the export, where a source may look for files."""
    run = "ab12cd34-0123456789ab"
    mine = [f"out.staging-{run}/part-1", f"out.staging-{run}/ready/d/a.txt", "out/a.txt"]
    others = ["old/book/a.txt", "old/a.txt", f"old.before-{run}/a.txt"]
    wanted = ["theirs/a.txt", "out.staging-of-a-play/a.txt", "outer/a.txt"]
    for name in (*mine, *others, *wanted, "theirs/_manifest.json", "old/_manifest.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"files": ["longattn"]}')
    (tmp_path / "old" / "_manifest.json").write_text('{"longattn": "0"}')
    source = {"path": str(tmp_path), "format": "text"}
    export = {"jsonl": {"path": str(tmp_path / "out")}}
    config = validate({"export": export, "sources": {"d": [source]}})
    own = OwnFiles(config)
    found = list_all(NO_SPARK, specs_of(config), own)
    assert sorted(file.name for file in found) == sorted(wanted)
    said = [line.replace(str(tmp_path), "") for line in own.lines()]
    assert said == [
        f"left out {n} files of /{place}, which a job has written"
        for n, place in [
            (2, "old"),
            (1, f"old.before-{run}"),
            (1, "out"),
            (2, f"out.staging-{run}"),
        ]
    ]


def test_an_export_of_others_on_a_store_is_known_by_its_manifest() -> None:
    """Spark alone can open it: once, where one was listed or may lie above."""
    asked: list[str] = []

    def read(uri: str) -> bytes:
        asked.append(uri)
        if uri == "s3://lake/old/_manifest.json":
            return b'{"longattn": "0"}'
        raise OSError(uri)

    own = OwnFiles(validate({}), read)
    own.manifests.add("s3://lake/old")
    uris = ["s3://lake/old/a", "s3://lake/old/book/b", "s3://lake/old/book/c", "s3://lake/a/b/c"]
    assert [own.has(uri) for uri in uris] == [True, True, True, False]
    assert own.left_out == {"s3://lake/old": 3}
    assert asked == ["s3://lake/old/_manifest.json"]


@pytest.mark.parametrize("format_", ["parquet", "jsonl"])
def test_files_of_a_table_on_a_store_are_refused_as_parquet(
    format_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def list_remote(_spark: Any, path: str, _domain: str, met: Folders) -> list[Listed]:
        met.tables.update((f"{path}/table", f"{path}/other"))
        return [Listed(f"{path}/{name}", 1, 1, name) for name in names]

    monkeypatch.setattr(listing, "list_remote", list_remote)
    source = {"path": "s3a://lake/in", "format": format_}
    ((spec, found),) = specs_of(validate({"sources": {"d": [source]}}))
    names = ["a.parquet", "tables/b.parquet"]
    assert len(list_files(A_SESSION, 0, spec, found)) == 2
    names.append("table/day=1/c.parquet")
    if format_ != "parquet":
        assert len(list_files(A_SESSION, 0, spec, found)) == 3
        return
    said = "sources.d: s3a://lake/in/table is a Delta table, whose files hold deleted rows too"
    with pytest.raises(SourceError, match=said):
        list_files(A_SESSION, 0, spec, found)


def test_a_source_of_which_no_file_is_left_says_whose_they_are(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.jsonl").write_text("{}")
    source = {"path": str(tmp_path)}
    export = {"jsonl": {"path": str(tmp_path / "out")}}
    config = validate({"export": export, "sources": {"d": [source]}})
    ((spec, found),) = specs_of(config)
    said = f"left out 1 files of {tmp_path}/out, which a job has written"
    with pytest.raises(SourceError, match=f"no file at {tmp_path}; {said}"):
        list_files(NO_SPARK, 0, spec, found, OwnFiles(config))
    with pytest.raises(SourceError, match=f"no file of {tmp_path} is a source: {said}"):
        look_at("sources.d", found, spec, OwnFiles(config))


def test_what_is_left_out_of_evaluation_sets_is_said(tmp_path: Path) -> None:
    for name in ("quiz.jsonl", "out/a.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"text": "what is it"}')
    sets = {"sources": [{"path": str(tmp_path), "name": "quiz"}]}
    export = {"jsonl": {"path": str(tmp_path / "out")}}
    lines: list[str] = []
    list_sets(None, validate({"decontaminate": sets, "export": export}), lines.append)
    said = f"left out 1 files of {tmp_path}/out, which a job has written"
    assert lines == [f"decontaminate: {said}"]


def test_evaluation_sets_that_python_can_open_are_listed_without_a_session(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "quiz", pa.table({"id": ["1"], "text": ["what is it"]}))
    quiz = {"path": str(tmp_path / "quiz"), "format": "delta", "id": "id"}
    ((name, plan),) = list_sets(None, validate({"decontaminate": {"sources": [quiz]}})).items()
    assert name.startswith("quiz:") and len(plan.pending) == 1
    for path, format_ in (("s3a://lake/quiz", "jsonl"), ("main.eval.quiz", "delta")):
        away = {"path": path, "format": format_, "id": "id"}
        with pytest.raises(SourceError, match=f"{path}: only a Spark session can open it"):
            list_sets(None, validate({"decontaminate": {"sources": [away]}}))
