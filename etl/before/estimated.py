"""An estimate as tables for people."""

from collections.abc import Callable

from rich.table import Table

from longattn.etl.before.estimate import Estimate
from longattn.etl.before.sampling import Range
from longattn.etl.run.show import human_bytes, new_table


def sizes_table(found: Estimate) -> Table:
    """Documents, tokens, windows and bytes, each with its range."""
    table = new_table(f"Sizes, from {found.sampled:.0%} of the sources", "what", ">about", ">range")
    for name in ("documents", "tokens", "windows", "packed_tokens"):
        value: Range = getattr(found, name)
        if value.value:
            table.add_row(name.replace("_", " "), _count(value.value), _range(value, _count))
    copies = found.duplicates
    table.add_row("copies, exact and near", f"{copies.value:.1%}", _range(copies, "{:.1%}".format))
    for name, size in found.bytes.items():
        table.add_row(name, human_bytes(size.value), _range(size, human_bytes))
    return table


def hours_table(found: Estimate) -> Table:
    """Hours of one core or one GPU, and what they cost at the config's rates."""
    currency = found.config.estimate.currency
    table = new_table("Hours of one core or GPU", "what", ">hours", ">range", f">{currency}")
    for name, hours in found.cpu_hours.items():
        table.add_row(f"{name}, CPU", *_hours(hours), _money(found.money(hours, None)))
    if found.gpu_hours:
        cost = found.money(Range(0, 0, 0), found.gpu_hours)
        table.add_row(f"scoring, {found.device}", *_hours(found.gpu_hours), _money(cost))
    for name, hours in found.variants.items():
        on_gpu = found.device is not None and "CPU" not in name
        cost = found.money(Range(0, 0, 0), hours) if on_gpu else found.money(hours, None)
        table.add_row(f"instead: {name}", *_hours(hours), _money(cost))
    return table


def notes(found: Estimate) -> list[str]:
    """Where the figures come from."""
    lines = ["scoring: timed on one core of this machine with documents of the sample"]
    if found.device:
        lines = [
            f"scoring on {found.device}: not measured; from the bound of its arithmetic for our"
            " kernel to the rate that the paper reports for its own code (docs/performance.md)"
        ]
    if found.sampled < 1:
        lines.append("copies: a sample shows few of them, and knows near ones by their beginning")
    return lines


def _range(value: Range, shown: Callable[[float], str]) -> str:
    return f"{shown(value.low)} to {shown(value.high)}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _hours(hours: Range) -> tuple[str, str]:
    return f"{hours.value:,.3g}", _range(hours, "{:,.3g}".format)


def _money(cost: Range | None) -> str:
    return "" if cost is None else f"{cost.value:,.2f}"
