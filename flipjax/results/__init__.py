"""Stored results of runs, the tables built from them, and the definitions of their columns.

`load` reads a run folder, `score` computes the same rows for any model's predictions, and `metrics.summary.names`
lists names, units and directions. Import everything else from the module that defines it.
"""

from flipjax.results.benchmark import score
from flipjax.results.run import StoredRun, load, units

__all__ = ["StoredRun", "load", "score", "units"]


def __dir__() -> list[str]:
    return __all__
