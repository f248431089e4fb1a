"""The numbers of flipjax.context in an audit, and those of its own command."""

import numpy as np
import pandas as pd
import pytest
from audited import audit, segments_of

from flipjax import context, metrics
from flipjax.audit import context_command as command

pytestmark = pytest.mark.usefixtures("without_pictures")


def test_they_are_those_of_the_labels_at_hand_and_few_flips_have_none(tmp_path, capsys):
    """80 images of four segments of 64 pixels; three in ten flip."""
    generator = np.random.default_rng(0)
    cells = np.array([generator.permutation(6)[:4] for _ in range(80)]).reshape(80, 2, 2)
    flips = (generator.random(cells.shape) < 0.3) & (cells > 0)
    predicted = np.where(flips, 1 + (cells + generator.integers(0, 4, cells.shape)) % 5, cells)
    predictions, labels = (np.kron(each, np.ones((8, 8), int)) for each in (predicted, cells))
    inputs = [f"--{name}={tmp_path / 'in.npz'}" for name in ("predictions", "labels")]

    def run(images):
        np.savez(tmp_path / "in.npz", masks=predictions[:images], labels=labels[:images])
        return audit(tmp_path / "out", *inputs, "--kind=masks", "--num_classes=6")

    assert "context" not in run(20)
    found = run(80)["context"]
    true = metrics.segments(predictions, labels, kind="masks", num_classes=6)
    shares = context.image_shares(list(labels), num_classes=6)
    with pytest.warns(UserWarning, match="training images"):
        evidence = context.context_evidence(true, shares, own=np.arange(80))
    expected = context.context_beta(true, evidence)
    for name, value in expected._asdict().items():
        assert found["beta"][name] == pytest.approx(value, abs=1e-6), name
    table, flip = segments_of(tmp_path / "out"), (true["outcome"] == "flip").to_numpy()
    np.testing.assert_allclose(table["evidence"][flip], evidence[flip, true["predicted"][flip]])
    assert table["evidence"][~flip].isna().all()
    assert "Context of flips" in (tmp_path / "out/summary.md").read_text()
    assert command.main([*inputs, "--samples=50", f"--out={tmp_path / 'command'}"]) == 0
    stored = pd.read_csv(tmp_path / "command/beta.csv").iloc[0]
    assert stored["beta"] == pytest.approx(expected.beta, abs=1e-5) and "each without itself" in capsys.readouterr().out
