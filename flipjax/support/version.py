"""The version of flipjax, as it is installed."""

from importlib.metadata import version

__version__ = version("flipjax")
