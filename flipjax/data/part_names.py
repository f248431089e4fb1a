"""The parts that a pool is divided into: their names and numbers."""

PARTS = ("train", "val", "test")
"""Names of the parts; a part's number is its index here."""
FREE = -1
"""The number of no part: of what the sweep divides."""
