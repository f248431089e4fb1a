"""Flip metrics of segmentations: pure kernels over logits and labels, and summaries of their counts on the host.

Modules load lazily, so that summaries of stored counts need no JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
# It needs torchmetrics, so `import *` leaves it out.
__all__.remove("TorchFlipMetric")
