"""Loads pools of images, and draws correlation levels from them as index tables."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
