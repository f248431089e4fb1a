"""Audits predictions in files (`audit_files`, `flipjax audit`) or in batches of a model (`stream`)."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name not in ("audit_files", "stream"):
        raise AttributeError(f"module 'flipjax.audit' has no attribute {name!r}")
    # Imported lazily, so that `--help` needs no JAX.
    from flipjax.audit import audits

    return getattr(audits, name)
