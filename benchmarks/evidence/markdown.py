"""Tables as Markdown."""

from collections.abc import Iterator


def head(*names: str) -> Iterator[str]:
    yield row(*names)
    yield "|" + "---|" * len(names)


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
