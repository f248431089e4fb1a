"""The version of flipjax, as it is installed."""

from importlib.metadata import version

__version__ = version("flipjax")
"""Such as 0.2.0.

Example:
    >>> __version__.split(".")[0]
    '0'
"""
