"""The public names, which `__init__.py` loads on first access, for type checkers and editors."""

from .conduct import assay as assay
from .results import Assay as Assay
from .results import OpenedAssay as OpenedAssay
from .results import open_assay as open_assay
