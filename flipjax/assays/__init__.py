"""Assays: whether an attribute of a user's data becomes a shortcut, and what would end it.

`assay` is the whole; its parts are the association, the cues, the population across folds, the contrast, the verdict
and the remedies.
"""

from flipjax.support import lazy

_NAMES = {
    ".conduct": "assay",
    ".results": "Assay read_assay",
}
__getattr__, __dir__, __all__ = lazy.lazy_names(__name__, _NAMES)  # pyright: ignore[reportUnsupportedDunderAll]
