"""flipjax: semantic label flips under correlation shift, measured and swept in JAX.

Submodules load on first access: `import flipjax; flipjax.metrics.decompose(logits, labels)`.
"""

import importlib
from typing import Any

__all__ = ["audit", "augment", "config", "data", "intervene", "losses", "methods", "metrics", "models", "monitor"]
__all__ += ["plan", "report", "results", "training"]

NAMES = {"Model": "training.model", "configure": "command", "load_model": "training.model"}
NAMES |= {"make_train": "training.train", "Run": "runs", "open_run": "runs", "run": "runs"}
"""Classes and functions of the package itself, and the module of each."""


def __getattr__(name: str) -> Any:
    if name in NAMES:
        return getattr(importlib.import_module(f"flipjax.{NAMES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"flipjax.{name}")
    if name == "__version__":
        metadata = importlib.import_module("importlib.metadata")
        return metadata.version("flipjax")
    raise AttributeError(f"module 'flipjax' has no attribute {name!r}; it has {', '.join([*__all__, *NAMES])}")


def __dir__() -> list[str]:
    return [*globals(), *__all__, *NAMES, "__version__"]
