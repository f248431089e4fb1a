"""Methods compared once each is tuned with the same budget.

`tune` draws each method's numbers at random, chooses on validation, trains anew on fresh seeds and tests once.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
