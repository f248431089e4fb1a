"""beta of two published models on VOC-val, against the trial's intervals; needs PyTorch and some minutes.

The trial took flip rates from twice to eight times as many photos. Research data outside of the repository: skipped
where it or PyTorch is absent.
"""

import pathlib
import runpy

import numpy as np
import pytest

from flipjax import context
from flipjax.metrics import segments

ROOT = pathlib.Path(__file__).parents[1]
MANY = ROOT.parent / "shared/many"


@pytest.mark.parametrize(("scale", "low", "high", "seg_flip"), [("2.0", 0.15, 0.72, 0.126), ("1.0", 0.31, 0.91, 0.205)])
def test_beta_lies_in_the_interval_of_the_trial(scale, low, high, seg_flip):
    pytest.importorskip("torch", reason="PyTorch is no dependency")
    if not MANY.is_dir():
        pytest.skip(f"no {MANY}")
    study = runpy.run_path(str(ROOT / "sweeps/studies/published_models/published.py"))
    names, images, labels, splits = study["load_photos"](MANY)
    predict = study["load_model"](MANY, f"ESPNetv2 {scale}")
    photos = images[splits == "val"].astype(np.float32) / 255
    predictions = [predict(photos[first : first + 8]).argmax(-1) for first in range(0, len(photos), 8)]
    predictions = np.concatenate(predictions).astype(np.uint8)
    options = {"kind": "masks", "num_classes": 21, "ignore_index": 255, "unit": "component"}
    true = segments(predictions, labels[splits == "val"], **options)
    beta = context.context_beta(true, context.context_evidence(true, study["load_shares"](MANY, names)[0]))
    assert low <= beta.beta <= high and beta.low > max(0, beta.shuffled - 0.05)
    assert abs((true["outcome"] == "flip").mean() - seg_flip) < 0.01
