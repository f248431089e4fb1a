"""What can be asked for: configuration keys, their values read and checked, and the programs of a configuration.

Nothing here imports JAX. Keys are declared in `sections`, a configuration is read by `reading` and planned by `plan`.
"""

from flipjax.support import lazy

_NAMES = {
    ".errors": "ConfigError",
    ".sections": (
        "AXES Condition Config Cue DTYPES Experiment FROZEN InterveneSpec KEYS LARGE MODEL_NAMES ModelSpec PLACES "
        "POOL_NAMES PoolSpec PopulationSpec Recipe SECTIONS SELECTIONS SMALL SplitSpec Thinning TrainSpec WHOLE "
        "default_config set_paper_recipe"
    ),
}
__getattr__, __dir__, __all__ = lazy.lazy_names(__name__, _NAMES)  # pyright: ignore[reportUnsupportedDunderAll]
