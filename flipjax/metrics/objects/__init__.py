"""Objects: connected regions of one class, and the table of them that `segments` returns."""
