"""flipjax: semantic label flips under correlation shift, measured and swept in JAX.

Submodules load on first access: `import flipjax; flipjax.metrics.decompose(logits, labels)`.
"""

from flipjax.support import lazy

_NAMES = {
    "": "assays audit augment config data intervene losses metrics models monitor report results training",
    ".assays.conduct": "assay",
    ".assays.results": "Assay",
    ".config.reading": "configure",
    ".runs": "Run open_run run",
    ".support.version": "__version__",
    ".training.model": "Model load_model",
    ".training.train": "make_train",
}
__getattr__, __dir__, __all__ = lazy.lazy_names(__name__, _NAMES)  # pyright: ignore[reportUnsupportedDunderAll]
