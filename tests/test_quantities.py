"""The tables of names: every number has one, with a unit and a direction."""

import numpy as np
import pytest

from flipjax.metrics import Decomposition, summarize
from flipjax.results import quantities
from flipjax.results.quantities import RANGES

CLASSES = ("background", "common", "rare")


def test_every_number_of_a_summary_is_in_the_table_of_quantities():
    counts = np.random.default_rng(0).integers(0, 40, (8, 3, 3))
    decomposition = Decomposition(counts, np.linspace(0, 9, 8))
    summary = summarize(decomposition, np.arange(8) % 4, class_names=CLASSES)
    keys = [key for key, value in summary.items() if not isinstance(value, list)]
    audited = {"mean_iou", "flip/common", "flip/rare"}
    assert {key for key in keys if not key.startswith("group/")} == set(quantities.of_classes(CLASSES)) | audited
    assert {quantities.quantity_of(key).unit for key in summary.keys() - {"flip_matrix"}} <= set(RANGES)
    assert quantities.title_of("flip/rare") == "flip of rare"
    assert quantities.title_of("group/rare/gap/common") == "IoU gap of common, rare"
    assert quantities.title_of("group/rare/iou/rare") == "IoU of rare, rare"
    assert quantities.quantity_of("group/rare/augrc").better == "down"
    with pytest.raises(KeyError, match=r"fg_flip.*found 'flips'"):
        quantities.quantity_of("flips")
