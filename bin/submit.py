"""The main file of spark-submit: its arguments are the command line's, `score --config FILE`.

It stands in a folder of its own: spark-submit puts the main file's folder first on sys.path, and
beside etl/jobs/select.py Python's own `select` would be shadowed.
"""

import sys

from etl.cli import main

sys.exit(main(sys.argv[1:]))
