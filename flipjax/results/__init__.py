"""The results of runs: what is stored of each member, the tables made of it, and what their columns mean.

`load` reads a run folder; `score` makes the same rows of any model's predictions; `quantities` is the table of names,
units and directions. All else is imported from the module that defines it.
"""

from flipjax.results.rows import score
from flipjax.results.run_data import RunData, load, units

__all__ = ["RunData", "load", "score", "units"]
