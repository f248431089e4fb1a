"""Measures how strongly surrounding classes influence which wrong class is predicted.

Works on any model's predictions for labelled photos. Context statistics come from training labels.
"""

from flipjax.context.choice import Choice, context_beta, count_others, fit_logit, rival_rates
from flipjax.context.evidence import context_classes, context_evidence, image_shares
from flipjax.context.use import Use, context_use, segment_shift

__all__ = [
    "Choice",
    "Use",
    "context_beta",
    "context_classes",
    "context_evidence",
    "context_use",
    "count_others",
    "fit_logit",
    "image_shares",
    "rival_rates",
    "segment_shift",
]
