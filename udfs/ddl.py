"""Arrow schemas as Spark's DDL: an exchange between Spark and Python is said once, in Arrow.

And text as SQL writes it.
"""

import pyarrow as pa

_NAMES = {
    pa.string(): "string",
    pa.binary(): "binary",
    pa.bool_(): "boolean",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.float64(): "double",
}


def ddl(schema: pa.Schema) -> str:
    """The columns as Spark's DDL.

    >>> ddl(pa.schema([("id", pa.string()), ("ids", pa.list_(pa.int32()))]))
    'id string, ids array<int>'
    """
    return ", ".join(f"{field.name} {ddl_type(field.type)}" for field in schema)


def ddl_type(type_: pa.DataType) -> str:
    """A type as Spark's DDL; raises KeyError for one that no exchange has had yet.

    >>> ddl_type(pa.list_(pa.struct([("n", pa.int64())])))
    'array<struct<n:bigint>>'
    """
    if pa.types.is_list(type_):
        return f"array<{ddl_type(type_.value_type)}>"
    if pa.types.is_struct(type_):
        return f"struct<{','.join(f'{part.name}:{ddl_type(part.type)}' for part in type_)}>"
    return _NAMES[type_]


def literal(text: str) -> str:
    """Text as SQL writes it.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"
