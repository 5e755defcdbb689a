"""The wheel and the sdist hold what they need; what is missing at run time is said in a line."""

import configparser
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from longattn.etl.cli import main
from longattn.udfs.errors import EXTRAS, missing_extra

REPO = Path(__file__).resolve().parents[1]
IGNORED = shutil.ignore_patterns(".*", "data", "dist", "build", "jars", "tests", "*.egg-info")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel that is built from it, as `python -m build` makes them."""
    root = tmp_path_factory.mktemp("package")
    shutil.copytree(REPO, root / "source", ignore=IGNORED, symlinks=True)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(root / "dist")]
    made = subprocess.run(
        [*command, str(root / "source")], capture_output=True, text=True, timeout=300
    )
    assert made.returncode == 0, made.stderr[-3000:]
    return root / "dist"


@pytest.mark.slow
def test_the_wheel_works_outside_the_repository(dist: Path, tmp_path: Path) -> None:
    """Imported from the wheel alone, by a Python that sees neither the checkout nor its folder.

    Its dependencies are this venv's: what is proven is that the wheel has all of our own code and
    files, not that an index resolves.
    """
    (wheel,) = dist.glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "site", "zip")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "import longattn, longattn.etl.cli as cli\n"
        "print(longattn.__file__)\n"
        "print(longattn.score(['a b c d ' * 20], 'recurrence', window=64)['ds'].notna().all())\n"
        "sys.exit(cli.main(['config', '--explain', 'seed']))"
    )
    made = subprocess.run(
        [sys.executable, "-I", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert made.returncode == 0, made.stderr[-3000:]
    where, scored, *_ = made.stdout.splitlines()
    assert where.startswith(str(tmp_path / "site"))
    assert scored == "True"
    resources = {path.name for path in (tmp_path / "site/longattn/etl/resources").iterdir()}
    assert resources >= {"report.html.j2", "log4j2.properties"}


@pytest.mark.slow
def test_the_sdist_builds_that_wheel(dist: Path) -> None:
    """`python -m build` makes the wheel from the sdist, so what that lacks the wheel lacks too."""
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.cfg", "pyproject.toml", "LICENSE", "README.md"} <= names


def test_without_spark_a_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: object) -> int:
        raise ModuleNotFoundError("No module named 'pyspark'", name="pyspark")

    monkeypatch.setattr("longattn.etl.cli._check", missing)
    assert main(["check", "--config", "any.yaml"]) == 2
    said = "pyspark is not installed here: pip install 'longattn-spark[spark,java]'"
    assert capsys.readouterr().err == f"longattn: {said}\n"


def test_every_extra_that_a_message_names_is_one_of_the_package() -> None:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(REPO / "setup.cfg")
    extras = setup["options.extras_require"]
    base = setup["options"]["install_requires"]
    for names, packages in EXTRAS.items():
        brought = "".join(extras[name] for name in names.split(","))
        for package in packages:
            assert package == "py4j" or f"\n{package}>=" in brought
            assert package not in base
            assert names in missing_extra(ModuleNotFoundError(name=f"{package}.x"))
    assert missing_extra(ModuleNotFoundError(name="spam")).endswith("pip install 'spam'")
