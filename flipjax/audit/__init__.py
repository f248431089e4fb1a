"""Audits predictions in files (`audit_files`, `flipjax audit`) or in batches of a model (`stream`).

Modules load lazily, so that `--help` needs no JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
