"""Before the first job: what can be known of a config without Spark, and what it will cost."""
