"""The public names, which `__init__.py` loads on first access, for type checkers and editors."""

from .registry import MODELS as MODELS
from .registry import build_frozen as build_frozen
from .registry import build_large as build_large
from .registry import build_small as build_small
