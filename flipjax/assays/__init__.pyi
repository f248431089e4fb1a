"""The public names, which `__init__.py` loads on first access, for type checkers and editors."""

from flipjax.assays.conduct import assay as assay
from flipjax.assays.results import Assay as Assay
from flipjax.assays.results import read_assay as read_assay
