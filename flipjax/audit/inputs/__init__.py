"""What an audit is given: its options, and pairs of a prediction and its labels, opened and read one at a time."""
