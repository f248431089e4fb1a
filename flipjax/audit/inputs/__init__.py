"""The input of an audit: its options, and pairs of a prediction and its labels, opened and read one at a time."""
