"""Names of a package that load their modules on first access."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable, list[str]]:
    """Returns `__getattr__`, `__dir__` and `__all__` of a package.

    Args:
        package: its name.
        modules: the names that come from each module, relative to the package, separated by blanks; from "" modules.
    """
    homes = {name: module for module, names in modules.items() for name in names.split()}

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(homes[name] or f".{name}", package)
        return getattr(module, name) if homes[name] else module

    return load, lambda: [*vars(sys.modules[package]), *homes], sorted(homes)
