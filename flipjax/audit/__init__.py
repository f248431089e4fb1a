"""An audit of anyone's predictions: `flipjax audit --logits DIR|FILE --labels DIR|FILE`; no flipjax model.

`flipjax.audit.stream` is the same for a model at hand.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "stream":
        raise AttributeError(f"module 'flipjax.audit' has no attribute {name!r}")
    # Not before: the command line explains its options without JAX.
    from flipjax.audit.batches import stream

    return stream
