"""What windows are ranked by, which are kept, and how they are mixed."""
