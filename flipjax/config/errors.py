"""The error of whatever a user asks for and cannot have."""


class ConfigError(ValueError):
    """An invalid request: `field` is the key, flag or file, `problem` the expected and the actual value.

    Example:
        >>> raise ConfigError("config.pool.root", "a folder of photos", "nothing")
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.pool.root: expected a folder of photos; found nothing
    """

    # Where users import it from, as a traceback shows.
    __module__ = "flipjax.config"
    exit_code = 2

    def __init__(self, field: str, expected: str = "", found: object = None, *, problem: str = ""):
        """Builds the message from `expected` and `found`, or takes it as `problem`."""
        self.field = field
        self.problem = problem
        if not problem:
            self.problem = f"expected {expected}"
            if found is not None:
                self.problem += f"; found {found}"
        super().__init__(f"{field}: {self.problem}")
