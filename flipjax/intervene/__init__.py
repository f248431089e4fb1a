"""Scene swap at inference: pastes a model's predicted regions onto other scenes, without labels.

A model that relies on the scene flips confidently, so its entropy does not reveal flips. But it finds the region, which
can be pasted onto other scenes, for any callable from images to logits. Quantities of the log-odds are in
`flipjax.metrics.scenes.swap`. Modules load lazily: these and the centers need no JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
