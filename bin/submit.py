"""The main file of spark-submit: its arguments are the command line's, `score --config FILE`.

It stands in a folder of its own: spark-submit puts the main file's folder first on sys.path.
"""

import sys

from longattn.etl.cli import main

if code := main(sys.argv[1:]):  # no SystemExit(0): Databricks runs this file inside a REPL
    sys.exit(code)
