"""This process and what it needs of its machine."""
