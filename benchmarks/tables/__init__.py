"""What tables cost at sizes that no test has."""
