"""`python -m longattn`: the command line, where its script is not on the path."""

from longattn.etl.cli import entry

entry()
