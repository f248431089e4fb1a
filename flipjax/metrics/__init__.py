"""Flip metrics of segmentations: pure kernels over logits and labels, and summaries of their counts on the host.

Modules load lazily, so that summaries of stored counts need no JAX.
"""

import lazy_loader

__getattr__, _, _names = lazy_loader.attach_stub(__name__, __file__)
# `import *` takes the names that need neither PyTorch nor torchmetrics.
__all__ = [name for name in _names if name != "TorchFlipMetric"]  # pyright: ignore[reportUnsupportedDunderAll]


def __dir__() -> list[str]:
    """Returns the same names."""
    return list(__all__)
