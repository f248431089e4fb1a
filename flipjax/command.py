"""What command lines with a configuration share: flags, errors in one line, and the start of JAX."""

import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from absl import flags
from ml_collections import config_flags

from flipjax.config import ConfigError, PopulationSpec, leaves
from flipjax.files import cache_folder
from flipjax.threads import cores


def flags_with_config() -> flags.FlagValues:
    """Returns the flags `--config` and `--help`, to which a command adds its own."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "The configuration, configs/NAME.py.", flag_values=values)
    flags.DEFINE_bool("help", False, "Show this help.", short_name="h", flag_values=values)
    return values


def parse(argv: Sequence[str], make_flags: Callable[[], flags.FlagValues]) -> flags.FlagValues:
    """Reads a command line.

    Args:
      argv: the program's name first; must be `sys.argv` itself, off which config_flags reads overrides.
      make_flags: returns the flags afresh.

    Raises:
      ConfigError: if it cannot be read, or names no configuration; with `--help` nothing is asked for.
    """
    values = make_flags()
    try:
        rest = values(list(argv))
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise _unknown_key(argv, make_flags) or ConfigError(
            "arguments", problem=" ".join(str(error).split())
        ) from error
    if rest[1:]:
        raise ConfigError("arguments", "flags only, such as --config configs/smoke.py", repr(rest[1]))
    if values.help:
        return values
    path = values.config and config_flags.get_config_filename(values["config"])
    if not path or not Path(path).is_file():
        raise ConfigError("--config", "a configuration file, such as configs/smoke.py", path or "none")
    return values


def _unknown_key(argv: Sequence[str], make_flags: Callable[[], flags.FlagValues]) -> ConfigError | None:
    """Returns the error of the first --config.KEY that the configuration does not have."""
    overrides = [part for part in argv if part.startswith("--config.")]
    plain = make_flags()
    # config_flags reads overrides off sys.argv, whatever it is given.
    whole, sys.argv = sys.argv, [part for part in argv if part not in overrides]
    try:
        plain(sys.argv)
        names = list(leaves(plain.config)) if plain.config is not None else []
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError):
        return None
    finally:
        sys.argv = whole
    for part in overrides:
        name = part.removeprefix("--config.").split("=")[0]
        if names and name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"the nearest is --config.{near[0]}" if near else f"valid are {', '.join(names)}"
            return ConfigError(f"--config.{name}", f"a key of the configuration; {hint}")
    return None


def start_backend(spec: PopulationSpec, members: int) -> str:
    """Gives a CPU one device a core, at most one a member; turns the compilation cache on; names the devices."""
    jax.config.update("jax_num_cpu_devices", min(spec.devices or cores(), members))
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
    devices = jax.devices()
    return f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})"
