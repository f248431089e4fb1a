"""The public names, which `__init__.py` loads on first access, for type checkers and editors."""

from . import assays as assays
from . import audit as audit
from . import augment as augment
from . import config as config
from . import data as data
from . import intervene as intervene
from . import losses as losses
from . import metrics as metrics
from . import models as models
from . import monitor as monitor
from . import report as report
from . import results as results
from . import training as training
from .assays.conduct import assay as assay
from .assays.results import Assay as Assay
from .assays.results import open_assay as open_assay
from .config.reading import configure as configure
from .runs import Run as Run
from .runs import open_run as open_run
from .runs import run as run
from .support.version import __version__ as __version__
from .training.model import Model as Model
from .training.model import load_model as load_model
from .training.train import make_train as make_train
