"""The networks that a configuration may name, their layers and their weights."""

import lazy_loader

__getattr__, _, _names = lazy_loader.attach_stub(__name__, __file__)
# `import *` takes the names that do not need PyTorch.
__all__ = [name for name in _names if name != "TorchUNet"]  # pyright: ignore[reportUnsupportedDunderAll]


def __dir__() -> list[str]:
    """Returns the same names."""
    return list(__all__)
