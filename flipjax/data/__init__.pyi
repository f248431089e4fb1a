"""The public names, which `__init__.py` loads on first access, for type checkers and editors."""

from .checking import check as check
from .loaders import POOLS as POOLS
from .member_images import benchmark as benchmark
from .sources.arrays import from_arrays as from_arrays
from .sources.arrays import from_cut_outs as from_cut_outs
