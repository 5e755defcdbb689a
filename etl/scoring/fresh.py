"""Rows that this run alone should add to a table, committed so that they are added once."""

import threading

from pyspark.sql import DataFrame

from longattn.etl.run.context import Context


class FreshCommits:
    """Merges batches whose keys the table did not have at a version, and no other batch has.

    As long as nobody else commits, there is nothing to compare a batch with. Once somebody does,
    every later batch is compared with all that was added since.
    """

    def __init__(self, context: Context, table: str, since: int | None) -> None:
        self.context, self.table = context, table
        self.since = since
        self.newest = since
        self.alone = True
        self.lock = threading.Lock()

    def commit(self, rows: DataFrame) -> tuple[int, int]:
        """Add the rows whose keys nobody has added meanwhile.

        Returns how many rows were added, and how many of the others somebody else has added.
        """
        with self.lock:
            before = self.context.tables[self.table].version()
            self.alone = self.alone and before == self.newest
            known = before if self.alone else self.since
            commit = self.context.tables.merge(self.table, rows, since=known)
            next_version = 1 if before is None else before + 1  # version 0 makes the table
            self.alone = self.alone and commit.version == next_version
            self.newest = commit.version
            there = commit.rows if self.alone else self.context.tables.there(self.table, rows)
            return commit.rows, there - commit.rows
