"""Runs that are killed, overlap, or meet damage: in the end all tables are those of a quiet run.

`make test-faults` runs them all: cases are drawn by a seed, which is printed and can be given
again. `make test` runs one of each kind, those that are not marked `faults`.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.faults.world import JOBS, LEDGER, Sources, Stages, World, run_to_the_end, wait_for

pytestmark = [pytest.mark.spark, pytest.mark.slow]
# How often each job commits to each table, which a test holds to be all of its commits.
COMMITS = {
    "ingest": {"rejects": 1, "documents": 1, "origins": 1, "source_files": 1, "listings": 1},
    "dedup": {"signatures": 1, "pairs": 1, "duplicates": 1},
    "windows": {"windows": 1, "lengths": 1},
    "score": {"scores": 5},
    "select": {"selections": 1},
    "export": {},
}
BESIDE = {"export": ["between renames@1", "after renames@1"]}
# From here on all is Python's: what delta-rs commits lies on disk by then.
LAST_COMMITS = [
    f"{when} commit {last}" for last in ("listings@1", "scores@5") for when in ("before", "after")
]
NEED_NO_JAVA = {f"{where}=jvm" for where in (*BESIDE["export"], *LAST_COMMITS)}
POINTS = {
    job: [
        f"{when} commit {table}@{turn}"
        for table, turns in COMMITS[job].items()
        for turn in range(1, turns + 1)
        for when in ("before", "after")
    ]
    + BESIDE.get(job, [])
    for job in JOBS
}
ACTIONS = ["kill", "kill", "term", "jvm"]
IN_MAKE_TEST = ("windows", "before commit lengths@1=kill")
OUT_OF_TURN = (  # what a job says that came before the one that it goes on from
    "for this config and these scores: run `longattn select`",
    "decided for another config: run `longattn dedup` with this one",
    "were never listed here: run `longattn ingest` with this config",
)
# What a job adds where another has not been yet: windows cuts what dedup would have left out.
MAY_HAVE_MORE = {"windows", "lengths", "scores"}
long = pytest.mark.faults


@pytest.fixture(scope="module")
def grown(fresh: Stages, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """A second run, after a file has come to the sources."""
    return Stages(tmp_path_factory.mktemp("grown"), fresh.done, "[abc]")


@pytest.fixture(scope="module")
def either(request: pytest.FixtureRequest) -> Stages:
    """What `make test` has at hand already; for `make test-faults` the second run."""
    stages: Stages = request.getfixturevalue("grown" if request.config.option.faults else "fresh")
    return stages


def finish(world: World, quiet: World) -> None:
    """Run to the end: nothing is lost, nothing is there twice, and the check agrees."""
    run_to_the_end(world)
    assert world.tables() == quiet.tables()


def finish_job(world: World, stages: Stages, job: str) -> None:
    """As `finish`, up to a job: later ones read no more than the tables, which are the same."""
    run_to_the_end(world, "run", "--to", job)
    assert world.tables() == stages.after(job).tables()


def cases(seed: int, count: int) -> list[tuple[str, str]]:
    """Jobs and faults, drawn by the seed: of every job, if there are six or more."""
    draw = random.Random(seed)
    left = {job: draw.sample(points, k=len(points)) for job, points in POINTS.items()}
    drawn: list[tuple[str, str]] = []
    while len(drawn) < count and any(left.values()):
        for job in draw.sample(JOBS, k=len(JOBS)):
            if left[job] and len(drawn) < count:
                drawn.append((job, f"{left[job].pop()}={draw.choice(ACTIONS)}"))
    return drawn


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "fault" in metafunc.fixturenames:
        options = metafunc.config.option
        found = cases(options.faults_seed, options.faults) or [IN_MAKE_TEST]
        metafunc.parametrize(("job", "fault"), found)


@pytest.mark.parametrize("seed", range(3))
def test_a_sample_has_a_kill_in_every_job(seed: int) -> None:
    assert {job for job, _ in cases(seed, 6)} == set(JOBS)
    everything = sum(map(len, POINTS.values()))
    assert len(cases(seed, 10**6)) == everything


def test_every_commit_of_every_job_is_a_point(fresh: Stages) -> None:
    assert {job: fresh.commits(job) for job in JOBS} == COMMITS


def test_killed_anywhere_and_run_again(fresh: Stages, tmp_path: Path, job: str, fault: str) -> None:
    world = fresh.before(job).copy(tmp_path / "world", fresh.files)
    code, out = world.run_alone(job, fault=fault)
    if fault.endswith("kill"):
        assert code == -signal.SIGKILL, out
    elif fault.endswith("term"):
        assert code == 143 and out.strip().splitlines()[-1].startswith("longattn: terminated;"), out
        assert world.statuses()[-1][1] == "failed"
    else:
        died = code == 1 and "Spark's Java process is gone" in out
        done = fault in NEED_NO_JAVA and (code == 0 or world.statuses()[-1][1] == "done")
        assert done or (died and world.statuses()[-1][1] == "failed"), out
    assert "Traceback" not in out and "py4j" not in out.lower(), out
    if (job, fault) == IN_MAKE_TEST:
        finish_job(world, fresh, job)
    else:
        finish(world, fresh.done)


@long
def test_a_run_that_waits_finishes_what_a_killed_one_began(fresh: Stages, tmp_path: Path) -> None:
    """Two runs at once, the first killed between two commits: the second takes over from it."""
    world = fresh.before("ingest").copy(tmp_path / "world", fresh.files)
    gate = tmp_path / "gate"
    first = world.start("ingest", fault=f"before commit documents=hold:{gate}")
    wait_for(Path(f"{gate}.held"))
    second = world.start("ingest")
    os.kill(first.pid, signal.SIGKILL)
    out, _ = second.communicate(timeout=300)
    assert second.returncode == 0, out
    assert world.statuses() == [("ingest", "killed"), ("ingest", "done")]
    finish(world, fresh.done)


@long
@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_run_with_one_line(fresh: Stages, tmp_path: Path, signal_: int) -> None:
    world = fresh.before("windows").copy(tmp_path / "world", fresh.files)
    gate = world.folder / "gate"
    process = world.start("windows", fault=f"before commit windows=hold:{gate}")
    wait_for(Path(f"{gate}.held"))
    process.send_signal(signal_)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 128 + signal_, out
    assert sum("what was committed is kept" in line for line in out.splitlines()) == 1
    assert "Traceback" not in out and "py4j" not in out.lower()
    assert world.statuses()[-1] == ("windows", "failed")
    finish(world, fresh.done)


def test_a_killed_worker_is_named(fresh: Stages, tmp_path: Path) -> None:
    world = fresh.before("windows").copy(tmp_path / "world", fresh.files)
    process = world.start("windows")
    killed = _kill_a_worker(process)
    out, _ = process.communicate(timeout=300)
    if killed and process.returncode:
        assert "Python worker" in out and "Traceback" not in out, out
    finish_job(world, fresh, "windows")


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


def together(world: World, *jobs: str) -> Iterator[tuple[int, str]]:
    """Start commands in the same moment: exit code and output of each."""
    for process in [world.start(job) for job in jobs]:
        out, _ = process.communicate(timeout=300)
        yield process.returncode, out


@pytest.mark.parametrize(
    "job", [job if job == "windows" else pytest.param(job, marks=long) for job in JOBS]
)
def test_two_of_a_job_at_once(either: Stages, tmp_path: Path, job: str) -> None:
    """Both begin in the same moment; one waits for the other and finds nothing to do."""
    world = either.before(job).copy(tmp_path / "world", either.files)
    for code, out in together(world, job, job):
        assert code == 0, out
    finish_job(world, either, job)


@long
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("ingest", "dedup"),
        ("ingest", "windows"),
        ("windows", "score"),
        ("score", "select"),
        ("select", "export"),
    ],
)
def test_two_different_jobs_at_once(grown: Stages, tmp_path: Path, first: str, second: str) -> None:
    """Whichever is first, what it finds is whole: the tables of a run before, or of the other."""
    world = grown.before(first).copy(tmp_path / "world", grown.files)
    for code, out in together(world, first, second):
        assert code == 0 or any(line in out for line in OUT_OF_TURN), out
    run_to_the_end(world)
    found, expected = world.tables(), grown.done.tables()
    for name in MAY_HAVE_MORE:
        assert set(expected.pop(name)) <= set(found.pop(name))
    assert found == expected


@long
def test_a_source_that_grows_meanwhile(spark: Any, tmp_path: Path) -> None:
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
    for either in (quiet, world):
        run_to_the_end(either)
    found, expected = world.tables(), quiet.tables()
    assert found["documents"] == expected["documents"]
    assert found["scores"] == expected["scores"] and found["lengths"] == expected["lengths"]


SLEEPERS = [
    *(("ingest", f"before commit {table}") for table in COMMITS["ingest"]),
    *((job, f"within commit {table}") for job in JOBS for table in COMMITS[job]),
    ("score", "within commit scores@2"),
]


BY_SPARK = [  # commits of the native connector, a job's largest
    pytest.param(job, f"within commit {table}", "native", marks=pytest.mark.jars)
    for job, table in (
        ("ingest", "documents"),
        ("dedup", "duplicates"),
        ("windows", "windows"),
        ("score", "scores"),
        ("select", "selections"),
    )
]


@long
@pytest.mark.parametrize(
    ("job", "place", "connector"), [*((*at, "delta-rs") for at in SLEEPERS), *BY_SPARK]
)
def test_a_paused_run_that_was_taken_for_dead_writes_no_more(
    fresh: Stages, tmp_path: Path, job: str, place: str, connector: str
) -> None:
    """It sleeps until another has taken its root and done its work, and wakes in its commit.

    Another machine cannot see that a process is stopped, so the lease's length decides.
    """
    world = fresh.before(job).copy(tmp_path / "world", fresh.files)
    world.connector = connector
    world.sees(fresh.files)
    out = wakes_when_another_is_done(world, job, place)
    assert "writes no more" in out, out
    finish(world, fresh.done)


@long
def test_a_paused_export_that_was_taken_for_dead_leaves_the_other(
    fresh: Stages, tmp_path: Path
) -> None:
    world = fresh.before("export").copy(tmp_path / "world", fresh.files)
    out = wakes_when_another_is_done(world, "export", "between renames")
    assert "the export that is there stays" in out, out
    assert world.tables() == fresh.done.tables()
    finish(world, fresh.done)


def wakes_when_another_is_done(world: World, job: str, place: str) -> str:
    """What a job says that is stopped at a point and woken later; no table has changed then."""
    settings = ["--set", "tables.lease=2"]
    gate = world.folder / "gate"
    first = world.start(job, *settings, fault=f"{place}=hold:{gate}")
    wait_for(Path(f"{gate}.held"))
    first.send_signal(signal.SIGSTOP)
    code, out = world.run(job, *settings)
    assert code == 0, out
    versions = world.versions() | {LEDGER: 0}  # its own row may say that it failed
    gate.touch()
    first.send_signal(signal.SIGCONT)
    out, _ = first.communicate(timeout=300)
    assert first.returncode == 1, out
    assert world.versions() | {LEDGER: 0} == versions
    return out


def test_another_shell_sees_how_far_a_run_is(fresh: Stages, tmp_path: Path) -> None:
    """From the lease, which is renewed while a batch is held back."""
    world, gate = fresh.before("score").copy(tmp_path / "world", fresh.files), tmp_path / "gate"
    fault = f"before commit scores@2=hold:{gate}"
    process = world.start("score", "--set", "tables.lease=2", fault=fault)
    wait_for(Path(f"{gate}.held"))
    time.sleep(2)
    code, out = world.run_alone("status", "--json")
    gate.touch()
    found = json.loads(out)["jobs"]["score"]
    assert code == 0 and found["status"] == "running" and not found["gone"] and found["seconds"]
    progress = found["progress"]
    assert (progress["job"], progress["unit"]) == ("score", "windows")
    assert 0 < progress["done"] <= progress["total"] == len(world.rows("windows"))
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    code, out = world.run_alone("status", "--json")
    assert "progress" not in json.loads(out)["jobs"]["score"]


@pytest.mark.parametrize("damage", ["empty log", "no log", "no last entry", "empty last entry"])
def test_a_lost_log_is_refused_by_name(fresh: Stages, tmp_path: Path, damage: str) -> None:
    world = fresh.before("windows").copy(tmp_path / "world", fresh.files)
    log = world.root / "documents" / "_delta_log"
    entries = sorted(log.glob("*.json"))
    if damage == "no log":
        shutil.rmtree(log)
    elif damage == "empty last entry":
        entries[-1].write_bytes(b"")
    else:
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


@long
def test_a_full_disk_is_called_so(small_disk: Path, fresh: Stages) -> None:
    world = fresh.before("dedup").copy(small_disk / "world", fresh.files)
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    code, out = world.run("dedup")
    assert code == 1 and "the disk is full" in out and "py4j" not in out.lower(), out
    ballast.unlink()
    finish(world, fresh.done)


@long
def test_a_disk_that_cannot_be_written_to_is_called_so(small_disk: Path, fresh: Stages) -> None:
    world = fresh.before("dedup").copy(small_disk / "world", fresh.files)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    code, out = world.run("dedup")
    assert code == 1 and "cannot be written to" in out and "Traceback" not in out, out
    code, out = world.run("status")
    assert code == 0 and "documents" in out, out
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    finish(world, fresh.done)
