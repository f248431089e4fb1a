"""flipjax: semantic label flips under correlation shift, measured and swept in JAX.

Submodules load on first access: `import flipjax; flipjax.metrics.decompose(logits, labels)`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
