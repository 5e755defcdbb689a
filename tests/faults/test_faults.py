"""Runs that are killed, overlap, or meet damage: in the end all tables are those of a quiet run.

They run by `make test-faults`: cases are drawn by a seed, which is printed and can be given again.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.world import JOBS, Sources, World, wait_for

pytestmark = [pytest.mark.spark, pytest.mark.slow]
COMMITS = {
    "rejects": 1,
    "documents": 1,
    "source_files": 1,
    "signatures": 1,
    "pairs": 1,
    "duplicates": 1,
    "windows": 1,
    "lengths": 1,
    "scores": 9,
    "selections": 1,
}
POINTS = [
    f"{when} commit {table}@{turn}"
    for table, turns in COMMITS.items()
    for turn in range(1, turns + 1)
    for when in ("before", "after")
] + ["between renames@1", "after renames@1"]
ALL = ("run", "--to", "export")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return Sources(tmp_path_factory.mktemp("faults") / "sources")


@pytest.fixture(scope="module")
def quiet(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world that nothing has disturbed."""
    world = World(tmp_path_factory.mktemp("quiet") / "world", sources)
    code, out = world.run(*ALL)
    assert code == 0, out
    return world


@pytest.fixture
def world(sources: Sources, tmp_path: Path) -> World:
    return World(tmp_path / "world", sources)


def finish(world: World, quiet: World, *argv: str) -> None:
    """Run to the end: nothing is lost, nothing is there twice, and the check agrees."""
    code, out = world.run(*(argv or ALL))
    assert code == 0, out
    assert world.tables() == quiet.tables()
    code, out = world.run("status", "--check")
    assert code == 0, out


@pytest.mark.faults
def test_a_run_that_waits_finishes_what_a_killed_one_began(
    sources: Sources, tmp_path: Path
) -> None:
    """Two runs at once, the first killed between two commits: the second takes over from it."""
    expected = World(tmp_path / "expected", sources)
    code, out = expected.run("ingest")
    assert code == 0, out
    world = World(tmp_path / "world", sources)
    gate = tmp_path / "gate"
    first = world.start("ingest", fault=f"before commit documents=hold:{gate}")
    wait_for(Path(f"{gate}.held"))
    second = world.start("ingest")
    os.kill(first.pid, signal.SIGKILL)
    out, _ = second.communicate(timeout=300)
    assert second.returncode == 0, out
    assert world.tables() == expected.tables()
    assert world.statuses() == [("ingest", "killed"), ("ingest", "done")]


def cases(config: pytest.Config) -> Iterator[tuple[str, str]]:
    """Fault points and actions, drawn by the seed."""
    draw = random.Random(config.getoption("--faults-seed"))
    points = draw.sample(POINTS, k=min(len(POINTS), config.getoption("--faults")))
    for point in points:
        yield point, draw.choice(["kill", "kill", "term", "jvm"])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "fault" in metafunc.fixturenames:
        metafunc.parametrize("fault", [f"{p}={action}" for p, action in cases(metafunc.config)])


@pytest.mark.faults
def test_killed_anywhere_and_run_again(world: World, quiet: World, fault: str) -> None:
    code, out = world.run(*ALL, fault=fault)
    if fault.endswith("kill"):
        assert code == -signal.SIGKILL
    elif fault.endswith("term"):
        assert code == 143 and out.strip().splitlines()[-1].startswith("longattn: terminated;")
        assert world.statuses()[-1][1] == "failed"
    else:
        assert code == 1 and "Spark's Java process is gone" in out
        assert world.statuses()[-1][1] == "failed"
    assert "Traceback" not in out and "py4j" not in out.lower()
    finish(world, quiet)


@pytest.mark.faults
@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_run_with_one_line(world: World, quiet: World, signal_: int) -> None:
    gate = world.folder / "gate"
    process = world.start(*ALL, fault=f"before commit windows=hold:{gate}")
    wait_for(Path(f"{gate}.held"))
    process.send_signal(signal_)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 128 + signal_, out
    assert sum("what was committed is kept" in line for line in out.splitlines()) == 1
    assert "Traceback" not in out and "py4j" not in out.lower()
    assert world.statuses()[-1] == ("windows", "failed")
    finish(world, quiet)


@pytest.mark.faults
def test_a_killed_worker_is_named(world: World, quiet: World) -> None:
    assert world.run("run", "--to", "dedup")[0] == 0
    process = world.start("windows")
    killed = _kill_a_worker(process)
    out, _ = process.communicate(timeout=300)
    if killed and process.returncode:
        assert "Python worker" in out and "Traceback" not in out
    finish(world, quiet)


def _kill_a_worker(process: "subprocess.Popen[str]") -> bool:
    """Kill the first Python worker that a driver's Java starts."""
    while process.poll() is None:
        for line in subprocess.run(
            ["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
        ).stdout.splitlines():
            pid, parent, command = line.split(None, 2)
            if "pyspark.daemon" in command and _is_below(int(parent), process.pid):
                os.kill(int(pid), signal.SIGKILL)
                return True
        time.sleep(0.05)
    return False


def _is_below(pid: int, ancestor: int) -> bool:
    while pid > 1 and pid != ancestor:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return pid == ancestor


@pytest.mark.faults
@pytest.mark.parametrize("job", JOBS)
def test_two_of_a_job_at_once(world: World, quiet: World, job: str) -> None:
    """Both begin in the same moment; one waits for the other and finds nothing to do."""
    before = JOBS[: JOBS.index(job)]
    if before:
        assert world.run("run", "--to", before[-1])[0] == 0
    pair = [world.start(job) for _ in range(2)]
    for process in pair:
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0, out
    finish(world, quiet)


@pytest.mark.faults
def test_a_source_that_grows_meanwhile(tmp_path: Path) -> None:
    """The second ingest sees a file more than the first, which is still at work."""
    sources = Sources(tmp_path / "sources", seed=7)
    world, gate = World(tmp_path / "world", sources), tmp_path / "gate"
    first = world.start("ingest", fault=f"before commit documents=hold:{gate}")
    wait_for(Path(f"{gate}.held"))
    sources.add("c", seed=9)
    second = world.start("ingest")
    time.sleep(5)
    gate.touch()
    for process in (first, second):
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0, out
    quiet = World(tmp_path / "quiet", sources)
    assert quiet.run(*ALL)[0] == 0
    code, out = world.run(*ALL)
    assert code == 0, out
    found, expected = world.tables(), quiet.tables()
    assert found["documents"] == expected["documents"]
    assert found["scores"] == expected["scores"] and found["lengths"] == expected["lengths"]


@pytest.mark.faults
def test_a_paused_run_that_was_taken_for_dead_writes_no_more(
    sources: Sources, tmp_path: Path
) -> None:
    """Another machine cannot see that a process is stopped, so the lease's length decides."""
    world = World(tmp_path / "world", sources)
    settings = ["--set", "tables.lease=2"]
    gate = tmp_path / "gate"
    first = world.start("ingest", *settings, fault=f"before commit documents=hold:{gate}")
    wait_for(Path(f"{gate}.held"))
    first.send_signal(signal.SIGSTOP)
    code, out = world.run("ingest", *settings)
    assert code == 0, out
    done = world.rows("documents")
    gate.touch()
    first.send_signal(signal.SIGCONT)
    out, _ = first.communicate(timeout=300)
    assert first.returncode == 1 and "did not renew its lease" in out
    assert world.rows("documents") == done


@pytest.mark.faults
@pytest.mark.parametrize("damage", ["empty log", "no log", "no last entry"])
def test_a_lost_log_is_refused_by_name(world: World, damage: str) -> None:
    assert world.run("run", "--to", "dedup")[0] == 0
    log = world.root / "documents" / "_delta_log"
    if damage == "no log":
        shutil.rmtree(log)
    else:
        entries = sorted(log.glob("*.json"))
        for entry in entries if damage == "empty log" else entries[-1:]:
            entry.unlink()
    duplicates = world.rows("duplicates")
    for argv in (("dedup",), ("ingest",), ("status", "--check")):
        code, out = world.run(*argv)
        assert code == 1 and "documents" in out and "restore" in out, out
    assert world.rows("duplicates") == duplicates


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a tmpfs here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.faults
def test_a_full_disk_is_called_so(small_disk: Path, sources: Sources, quiet: World) -> None:
    world = World(small_disk / "world", sources)
    assert world.run("ingest")[0] == 0
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file:
        try:
            while True:
                file.write(b"x" * 4096)
                file.flush()
        except OSError:
            pass
    code, out = world.run("dedup")
    assert code == 1 and "the disk is full" in out and "py4j" not in out.lower(), out
    ballast.unlink()
    finish(world, quiet)
