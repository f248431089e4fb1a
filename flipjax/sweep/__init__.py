"""The sweep command and all access to run folders."""

from flipjax.support import lazy

__getattr__, __dir__ = lazy.lazy_modules(__name__, __path__)
