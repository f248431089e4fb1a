"""The report of a run folder: figures, tables and a page. `flipjax report RUN` rebuilds it."""

from flipjax.support import lazy

__getattr__, __dir__ = lazy.lazy_modules(__name__, __path__)
