"""A module for each export format: what is written, and how it is read back."""
