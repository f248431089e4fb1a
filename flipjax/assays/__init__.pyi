"""The public names, which `__init__.py` loads on first access, for type checkers and editors."""

from .conduct import assay as assay
from .opened import OpenedAssay as OpenedAssay
from .opened import open_assay as open_assay
from .results import Assay as Assay
