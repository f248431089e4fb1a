"""The parts of a comparison of two audits: the stored counts, and the differences."""
