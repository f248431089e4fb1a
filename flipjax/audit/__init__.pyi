"""The public names, which `__init__.py` loads on first access, for type checkers and editors."""

from .audits import audit_files as audit_files
from .audits import stream as stream
from .gates import try_limits as try_limits
