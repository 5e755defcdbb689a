"""Where tables live, derived from their root alone: a folder, a URI or catalog.schema."""

import re

QUALIFIER = r"[\w-]*\w\."  # letters, digits, - and _, and the dot


def location(root: str, table: str) -> str:
    """Where a table lives: root/table for paths, root.table for catalog names."""
    if is_catalog_name(root):
        return sql_name(f"{root}.{table}")
    return f"{root.rstrip('/')}/{table}"


def is_catalog_name(root: str) -> bool:
    """True for `catalog.schema`: two names of letters, digits, - and _ with a dot between."""
    return re.fullmatch(rf"{QUALIFIER}[\w-]+", root) is not None


def is_table_name(path: str) -> bool:
    """True for schema.table and catalog.schema.table, of such names."""
    return re.fullmatch(rf"(?:{QUALIFIER}){{1,2}}[\w-]+", path) is not None


def sql_name(name: str) -> str:
    """A dotted name as SQL takes it: in backticks, part by part, where it needs them."""
    return ".".join(_quoted(part) for part in name.split("."))


def _quoted(name: str) -> str:
    return name if name.isidentifier() else f"`{name}`"


def as_pattern(path: str) -> str:
    """A path with the marks quoted that Spark would take for a pattern."""
    return re.sub(r"([{}\[\]*?\\])", r"\\\1", path)
