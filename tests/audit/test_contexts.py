"""The numbers of flipjax.context in an audit."""

import json

import numpy as np
import pandas as pd
import pytest

from flipjax import context, metrics
from flipjax.audit.__main__ import main

pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.fixture(scope="module")
def masks():
    """80 images of four segments of 64 pixels; three in ten flip."""
    generator = np.random.default_rng(0)
    cells = np.array([generator.permutation(6)[:4] for _ in range(80)]).reshape(80, 2, 2)
    flips = (generator.random(cells.shape) < 0.3) & (cells > 0)
    predicted = np.where(flips, 1 + (cells + generator.integers(0, 4, cells.shape)) % 5, cells)
    return tuple(np.kron(each, np.ones((8, 8), int)) for each in (predicted, cells))


def run(folder, predictions, labels):
    np.savez(folder / "in.npz", masks=predictions, labels=labels)
    inputs = [f"--{name}={folder / 'in.npz'}" for name in ("predictions", "labels")]
    assert main([*inputs, "--kind=masks", "--num_classes=6", f"--out={folder / 'out'}"]) == 0
    return json.loads((folder / "out/summary.json").read_text())


def test_they_are_those_of_the_labels_at_hand(masks, tmp_path):
    predictions, labels = masks
    found = run(tmp_path, predictions, labels)["context"]
    true = metrics.segments(predictions, labels, kind="masks", num_classes=6)
    shares = context.image_shares(list(labels), num_classes=6)
    with pytest.warns(UserWarning, match="training images"):
        evidence = context.context_evidence(true, shares, own=np.arange(80))
    expected = context.context_beta(true, evidence)
    for name, value in expected._asdict().items():
        assert found["beta"][name] == pytest.approx(value, abs=1e-6), name
    assert found["natural_gap"]["gap"] == pytest.approx(context.natural_gap(true, evidence).gap, abs=1e-6)
    stored = tmp_path / "out/segments.parquet"
    table = pd.read_parquet(stored) if stored.is_file() else pd.read_csv(stored.with_suffix(".csv"))
    flip = (true["outcome"] == "flip").to_numpy()
    np.testing.assert_allclose(table["evidence"][flip], evidence[flip, true["predicted"][flip]])
    assert table["evidence"][~flip].isna().all()
    assert "Context of flips" in (tmp_path / "out/summary.md").read_text()


def test_few_flips_have_none(masks, tmp_path):
    predictions, labels = masks
    assert "context" not in run(tmp_path, predictions[:20], labels[:20])
