"""flipjax: semantic label flips under correlation shift, measured and swept in JAX.

Submodules load on first access: `import flipjax; flipjax.metrics.decompose(logits, labels)`.
"""

import lazy_loader

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    """Loads a public name; what other libraries change of the process when they are imported is restored."""
    # Python asks for modules such as `command` here, too, before it imports them.
    if name not in __all__:
        return _load(name)
    from flipjax.support.restoring import imports_leave_no_trace

    with imports_leave_no_trace():
        return _load(name)
