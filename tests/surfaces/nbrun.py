"""Run a Databricks .py notebook in a real Jupyter kernel.

    python tests/surfaces/nbrun.py notebooks/02_explore_scores.py out.ipynb config=my.yaml alpha=0

Cells are split as Databricks splits them; %md becomes text, %pip is left out; widgets take the
values given. Writes the executed notebook and prints what it passed to dbutils.notebook.exit.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

FIRST_LINE = "# Databricks notebook source\n"
SEPARATOR = "\n# COMMAND ----------\n"
MAGIC = "# MAGIC"
REPO = Path(__file__).resolve().parents[2]


def to_notebook(source: str) -> NotebookNode:
    """Databricks source to a Jupyter notebook. Raises ValueError where it is not such a source."""
    if not source.startswith(FIRST_LINE):
        raise ValueError(f"not a Databricks notebook: the first line is not {FIRST_LINE.strip()!r}")
    cells = (cell.strip("\n") for cell in source[len(FIRST_LINE) :].split(SEPARATOR))
    return new_notebook(cells=[_cell(cell) for cell in cells if cell and not _is_pip(cell)])


def run(path: Path, widgets: dict[str, str], timeout: int = 300) -> tuple[NotebookNode, str]:
    """Execute a notebook; returns it, with outputs, and its exit value.

    Raises CellExecutionError for a cell that fails, and ValueError when it never exits.
    """
    notebook = to_notebook(path.read_text(encoding="utf-8"))
    setup = f"from tests.surfaces.dbutils import install\ninstall(globals(), {widgets!r})"
    notebook.cells.insert(0, new_code_cell(setup))
    client = NotebookClient(notebook, timeout=timeout, resources={"metadata": {"path": str(REPO)}})
    try:
        client.execute()
    except CellExecutionError as error:
        if error.ename != "NotebookExit":
            raise
        return notebook, error.evalue
    raise ValueError(f"{path.name}: ended without dbutils.notebook.exit")


def _cell(source: str) -> NotebookNode:
    if not source.startswith(MAGIC):
        return new_code_cell(source)
    text = "\n".join(line.removeprefix(MAGIC).removeprefix(" ") for line in source.splitlines())
    if not text.startswith("%md"):
        raise ValueError(f"only %md and %pip cells are known, got {text.split()[0]}")
    return new_markdown_cell(text.removeprefix("%md").strip())


def _is_pip(source: str) -> bool:
    return source.startswith(f"{MAGIC} %pip")


if __name__ == "__main__":
    given = dict(word.split("=", 1) for word in sys.argv[3:])
    executed, value = run(Path(sys.argv[1]), given)
    nbformat.write(executed, sys.argv[2])
    print(value)
