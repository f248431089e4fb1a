"""Files, the terminal, threads and ranges of values: what any program needs."""
