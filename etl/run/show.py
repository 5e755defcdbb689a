"""How the commands print: tables, and sizes for people."""

from collections.abc import Mapping
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table


def human_bytes(size: float) -> str:
    """For example `3.4 MB`; decimal units, as disks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def contamination_words(hits: Mapping[str, float]) -> str:
    """Contaminated windows by evaluation set, in words.

    For example `, contaminated by gsm8k 12, mmlu 0`; nothing where nothing was looked for.
    """
    listed = ", ".join(f"{name} {count:,.0f}" for name, count in hits.items())
    return f", contaminated by {listed}" if listed else ""


def new_table(title: str, *columns: str) -> Table:
    """A table; a column named `>x` is aligned to the right."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for column in columns:
        side: Literal["left", "right"] = "right" if column[0] == ">" else "left"
        table.add_column(column.lstrip(">"), justify=side, overflow="fold")
    return table


def print_table(table: Table) -> None:
    """Print to stdout: as wide as the terminal, or uncut where there is none.

    Texts are as they stand, since names and errors may hold [marks] and :words:.
    """
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 140  # a log has no width to fit, and cut cells help nobody
    console.print(table)
