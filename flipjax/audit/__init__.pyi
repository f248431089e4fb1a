"""The public names, which `__init__.py` loads on first access, for type checkers and editors."""

from .audit_files import audit_files as audit_files
from .audit_stream import stream as stream
from .statistics.limits import try_limits as try_limits
