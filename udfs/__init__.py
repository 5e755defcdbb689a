"""Pure executor code: what runs inside Spark's Python workers, importable without Spark."""

__version__ = "0.2.0"
