"""LongAttn as Spark jobs: config, tables, stages, jobs and the command line."""
