"""The public names, which `__init__.py` loads on first access, for type checkers and editors."""

from . import compiler as compiler
from . import memory as memory
from . import random as random
from . import software as software
from . import start as start
from .compiler import fast_jit as fast_jit
from .random import key_of as key_of
