"""Names of a package that load their modules on first access, and what `dir` lists of it."""

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

Hooks: TypeAlias = tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]
"""`__getattr__`, `__dir__` and `__all__` of a package."""


def lazy_names(package: str, modules: Mapping[str, str], *, here: Sequence[str] = ()) -> Hooks:
    """Returns `__getattr__`, `__dir__` and `__all__` of a package with public names from its modules.

    Args:
        package: its name.
        modules: the names that come from each module, relative to the package, separated by blanks; from "" modules.
        here: public names that the package defines itself.
    """
    homes: dict[str, str] = {}
    for module, names in modules.items():
        homes.update(dict.fromkeys(names.split(), module))
    public = sorted([*homes, *here])

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {', '.join(public)}")
        if homes[name] == "":
            return importlib.import_module(f".{name}", package)
        return getattr(importlib.import_module(homes[name], package), name)

    return load, lambda: list(public), public


def lazy_modules(package: str, path: Sequence[str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Returns `__getattr__` and `__dir__` of a package whose public names, and so its `__all__`, are its modules.

    They are listed when they are first asked for: listing loads modules of Python that take a third of the time of
    `import flipjax`.

    Args:
        package: its name.
        path: its `__path__`.
    """

    @functools.cache
    def names() -> list[str]:
        import pkgutil

        return sorted(module.name for module in pkgutil.iter_modules(path) if module.name != "__main__")

    def load(name: str) -> Any:
        if name == "__all__":
            return names()
        if name.startswith("__") or name not in names():
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {', '.join(names())}")
        return importlib.import_module(f".{name}", package)

    return load, names
