"""The type of a configuration as a user changes it. Imports no JAX."""

from typing import Any, Protocol


class Config(Protocol):
    """A `ConfigDict` as from `default_config`: its attributes and items are the sections, and theirs the keys.

    No type checker can follow values that a user sets by name, so they are `Any`.

    Example:
        >>> from flipjax.config import default_config
        >>> config = default_config()
        >>> config.axes.rho, config["train"]["epochs"]
        ((0.5, 0.95), 15)
        >>> config.train.epochs = 4
        >>> config.is_locked  # So that a misspelt key is an error.
        True
    """

    def __getattr__(self, name: str, /) -> Any:
        """Returns a section or, of a section, a value."""

    def __setattr__(self, name: str, value: Any, /) -> None:
        """Sets a section or a value."""

    def __getitem__(self, name: str, /) -> Any:
        """Returns a section or, of a section, a value."""

    def __setitem__(self, name: str, value: Any, /) -> None:
        """Sets a section or a value."""
