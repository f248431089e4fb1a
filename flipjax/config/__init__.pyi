"""The public names, which `__init__.py` loads on first access, for type checkers and editors."""

from flipjax.config.errors import ConfigError as ConfigError
from flipjax.config.sections import AXES as AXES
from flipjax.config.sections import DTYPES as DTYPES
from flipjax.config.sections import KEYS as KEYS
from flipjax.config.sections import LARGE as LARGE
from flipjax.config.sections import MODEL_NAMES as MODEL_NAMES
from flipjax.config.sections import PLACES as PLACES
from flipjax.config.sections import POOL_NAMES as POOL_NAMES
from flipjax.config.sections import SECTIONS as SECTIONS
from flipjax.config.sections import SELECTIONS as SELECTIONS
from flipjax.config.sections import SMALL as SMALL
from flipjax.config.sections import WHOLE as WHOLE
from flipjax.config.sections import Condition as Condition
from flipjax.config.sections import Config as Config
from flipjax.config.sections import Cue as Cue
from flipjax.config.sections import Experiment as Experiment
from flipjax.config.sections import InterveneSpec as InterveneSpec
from flipjax.config.sections import ModelSpec as ModelSpec
from flipjax.config.sections import PoolSpec as PoolSpec
from flipjax.config.sections import PopulationSpec as PopulationSpec
from flipjax.config.sections import Recipe as Recipe
from flipjax.config.sections import SplitSpec as SplitSpec
from flipjax.config.sections import Thinning as Thinning
from flipjax.config.sections import TrainSpec as TrainSpec
from flipjax.config.sections import default_config as default_config
from flipjax.config.sections import set_paper_recipe as set_paper_recipe
