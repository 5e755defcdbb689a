"""Stand-ins for what a Databricks notebook finds in its globals: dbutils, display, spark."""

from types import SimpleNamespace
from typing import Any


class NotebookExit(Exception):
    """Raised by dbutils.notebook.exit; what was passed is its text."""


class Widgets:
    """Widgets that take given values; a dropdown refuses one that it does not offer."""

    def __init__(self, given: dict[str, str]) -> None:
        self.given = given
        self.values: dict[str, str] = {}

    def text(self, name: str, default: str, label: str = "") -> None:
        self.values[name] = self.given.get(name, default)

    def dropdown(self, name: str, default: str, choices: list[str], label: str = "") -> None:
        self.text(name, default)
        if self.values[name] not in choices:
            raise ValueError(f"widget {name}: {self.values[name]!r} is none of {choices}")

    def get(self, name: str) -> str:
        return self.values[name]


def install(notebook: dict[str, Any], given: dict[str, str]) -> None:
    """Put the stand-ins into a notebook's globals. Raises for a value that no widget took."""
    from IPython.display import display

    def leave(text: str) -> None:
        unused = set(given) - set(widgets.values)
        raise NotebookExit(text if not unused else f"no such widgets: {sorted(unused)}")

    def show(value: Any) -> None:
        display(value.limit(1000).toPandas() if hasattr(value, "toPandas") else value)

    widgets = Widgets(given)
    notebook["dbutils"] = SimpleNamespace(
        widgets=widgets,
        notebook=SimpleNamespace(exit=leave),
        library=SimpleNamespace(restartPython=lambda: None),
    )
    notebook["display"] = show
