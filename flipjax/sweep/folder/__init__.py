"""The folder of a run: who may use it, its record, its paths and its stored results."""
