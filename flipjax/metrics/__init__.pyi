"""The public names, which `__init__.py` loads on first access, for type checkers and editors."""

from flipjax.metrics.accumulate import FlipMetric as FlipMetric
from flipjax.metrics.classes import LabelSpec as LabelSpec
from flipjax.metrics.classes import class_names as class_names
from flipjax.metrics.decomposition import Decomposition as Decomposition
from flipjax.metrics.decomposition import concatenate as concatenate
from flipjax.metrics.kernels import decompose as decompose
from flipjax.metrics.kernels import error_map as error_map
from flipjax.metrics.kernels import flip_risk as flip_risk
from flipjax.metrics.kernels import logit_scores as logit_scores
from flipjax.metrics.kernels import risk_map as risk_map
from flipjax.metrics.regions import RegionSums as RegionSums
from flipjax.metrics.regions import region_sums as region_sums
from flipjax.metrics.segment_table import SegmentTables as SegmentTables
from flipjax.metrics.segment_table import error_budget as error_budget
from flipjax.metrics.segment_table import segment_auroc as segment_auroc
from flipjax.metrics.segment_table import segment_confusion as segment_confusion
from flipjax.metrics.segment_table import segment_flips as segment_flips
from flipjax.metrics.segment_table import segment_tables as segment_tables
from flipjax.metrics.segment_table import segments as segments
from flipjax.metrics.summary import Interval as Interval
from flipjax.metrics.summary import bootstrap as bootstrap
from flipjax.metrics.summary import resampled as resampled
from flipjax.metrics.summary import summarize as summarize
