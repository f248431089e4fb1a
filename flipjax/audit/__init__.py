"""Audits predictions in files (`audit_files`, `flipjax audit`) or in batches of a model (`stream`).

Modules load lazily, so that `--help` needs no JAX.
"""

from flipjax.support import lazy

_NAMES = {
    ".audits": "audit_files stream",
}
__getattr__, __dir__, __all__ = lazy.lazy_names(__name__, _NAMES)  # pyright: ignore[reportUnsupportedDunderAll]
