"""JAX as flipjax uses it: its start, its random keys, its compiler, the memory and the software of a process."""

from flipjax.support import lazy

_NAMES = {
    "": "compiler memory random software start",
    ".compiler": "fast_jit",
    ".random": "key_of",
}
__getattr__, __dir__, __all__ = lazy.lazy_names(__name__, _NAMES)  # pyright: ignore[reportUnsupportedDunderAll]
