"""Files, the terminal, threads and ranges of values: what any program needs."""

from flipjax.support import lazy

__getattr__, __dir__ = lazy.lazy_modules(__name__, __path__)
