"""What can be asked for: configuration keys, their values read and checked, and the programs of a configuration.

Nothing here imports JAX. Keys are declared in `sections`, with the values of `choices`; `default` makes the
configuration that a user changes. It is read by `reading` and planned by `plan`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
