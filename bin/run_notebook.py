#!/usr/bin/env python3
"""Run a Databricks .py notebook in a real Jupyter kernel.

    bin/run_notebook.py notebooks/02_explore_scores.py out.ipynb config=my.yaml alpha=0

Cells are split as Databricks splits them; %md becomes text, %pip is left out; widgets take the
values given. Writes the executed notebook, its figures as pictures too, so that GitHub shows them,
and prints what it passed to dbutils.notebook.exit.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

FIRST_LINE = "# Databricks notebook source\n"
SEPARATOR = "\n# COMMAND ----------\n"
MAGIC = "# MAGIC"
BIN = Path(__file__).resolve().parent


def to_notebook(source: str) -> NotebookNode:
    """Databricks source to a Jupyter notebook. Raises ValueError where it is not such a source."""
    if not source.startswith(FIRST_LINE):
        raise ValueError(f"not a Databricks notebook: the first line is not {FIRST_LINE.strip()!r}")
    cells = (cell.strip("\n") for cell in source[len(FIRST_LINE) :].split(SEPARATOR))
    return new_notebook(cells=[_cell(cell) for cell in cells if cell and not _is_pip(cell)])


def run(path: Path, widgets: dict[str, str], timeout: int = 1200) -> tuple[NotebookNode, str]:
    """Execute a notebook; returns it, with outputs, and its exit value.

    Raises CellExecutionError for a cell that fails, and ValueError when it never exits.
    """
    notebook = to_notebook(path.read_text(encoding="utf-8"))
    setup = f"import sys\nsys.path.insert(0, {str(BIN)!r})\nfrom dbutils import install\n"
    setup += f"install(globals(), {widgets!r})"
    notebook.cells.insert(0, new_code_cell(setup))
    resources = {"metadata": {"path": str(BIN.parent)}}
    client = NotebookClient(notebook, timeout=timeout, resources=resources)
    try:
        client.execute()
    except CellExecutionError as error:
        if error.ename != "NotebookExit":
            raise
        del notebook.cells[0]  # the set-up, which no reader needs
        _end_well(notebook, error.evalue)
        return notebook, error.evalue
    raise ValueError(f"{path.name}: ended without dbutils.notebook.exit")


def _end_well(notebook: NotebookNode, value: str) -> None:
    """Where dbutils.notebook.exit stopped the kernel by an error, say what it passed instead."""
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        if any(output.output_type == "error" for output in outputs):
            text = new_output("stream", name="stdout", text=f"Notebook exited: {value}\n")
            cell.outputs = [o for o in outputs if o.output_type != "error"] + [text]


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
