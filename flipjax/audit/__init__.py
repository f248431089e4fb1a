"""Audits of predictions: stored in files (`audit_files`, `flipjax audit`), or batches of a model (`stream`)."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name not in ("audit_files", "stream"):
        raise AttributeError(f"module 'flipjax.audit' has no attribute {name!r}")
    # Not before: the command line explains its options without JAX.
    from flipjax.audit import audits

    return getattr(audits, name)
