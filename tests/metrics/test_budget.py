"""Gains from correcting kinds of errors, against corrected masks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipjax import metrics
from metrics.logits import EXAMPLES


@EXAMPLES
@given(seed=st.integers(0, 2**16), background=st.sampled_from([None, 0, (0, 1)]))
def test_the_budget_is_the_confusion_and_its_gains_those_of_mended_masks(seed, background):
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.repeat(rng.integers(0, 4, (2, 3, 3)), 3, 1), 3, 2)
    prediction = np.where(rng.random(truth.shape) < 0.5, rng.integers(0, 4, truth.shape), truth)
    options = {"kind": "masks", "num_classes": 4, "background": background}
    tables = metrics.segment_tables(prediction, truth, min_pixels=4, rim=1, unit="component", **options)
    budget = metrics.error_budget(tables.pixels, num_classes=4)
    before = metrics.decompose(prediction, truth, **options)
    stored = np.zeros((2, 4, 4), int)
    np.add.at(stored, tuple(tables.pixels[["image", "class", "predicted"]].to_numpy().T), tables.pixels["pixels"])
    np.testing.assert_array_equal(stored, before.confusion)
    codes = np.asarray(metrics.error_map(prediction, truth, **options))
    own = metrics.summarize(before)["mean_iou"]
    for kind, wrong in {"miss": codes == 3, "spill": codes == 4, "all": prediction != truth}.items():
        mended = metrics.decompose(np.where(wrong, truth, prediction), truth, **options)
        assert budget.loc[kind, "pixels"] == wrong.sum()
        assert budget.loc[kind, "gain"] == pytest.approx(metrics.summarize(mended)["mean_iou"] - own)
    assert budget["pixels"].drop("all").sum() == budget.loc["all", "pixels"]
    assert budget.loc[["whole", "rim", "inside"], "pixels"].sum() == (codes == 2).sum()
