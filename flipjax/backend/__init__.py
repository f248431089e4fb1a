"""JAX as flipjax uses it: its start, its random keys, its compiler, the memory and the software of a process."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
