"""Training of one member as pure functions, and the map over members."""

from flipjax.support import lazy

__getattr__, __dir__ = lazy.lazy_modules(__name__, __path__)
