"""Jobs look, while they count their input, whether a row of it stands there twice."""

from longattn.udfs.errors import TableError


def refuse_repeated(rows: int, distinct: int, where: str) -> None:
    """Raise TableError when there are fewer distinct keys than rows."""
    if rows != distinct:
        raise TableError(
            f"{where}: {rows - distinct} of {rows} rows are there more than once, and what follows"
            " would be wrong; `longattn status --check` says which, and how to mend it"
        )
