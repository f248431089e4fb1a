"""The public names, which `__init__.py` loads on first access, for type checkers and editors."""

from flipjax import assays as assays
from flipjax import audit as audit
from flipjax import augment as augment
from flipjax import config as config
from flipjax import data as data
from flipjax import intervene as intervene
from flipjax import losses as losses
from flipjax import metrics as metrics
from flipjax import models as models
from flipjax import monitor as monitor
from flipjax import report as report
from flipjax import results as results
from flipjax import training as training
from flipjax.assays.conduct import assay as assay
from flipjax.assays.results import Assay as Assay
from flipjax.config.reading import configure as configure
from flipjax.runs import Run as Run
from flipjax.runs import open_run as open_run
from flipjax.runs import run as run
from flipjax.support.version import __version__ as __version__
from flipjax.training.model import Model as Model
from flipjax.training.model import load_model as load_model
from flipjax.training.train import make_train as make_train
