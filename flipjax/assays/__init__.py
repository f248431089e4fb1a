"""Assays: whether an attribute of a user's data becomes a shortcut, and what would end it.

`assay` is the whole; its parts are the association, the cues, the population across folds, the contrast, its
interim analyses, the verdict and the remedies.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
