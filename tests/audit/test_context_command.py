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


def test_maps_of_values_to_classes_of_either_side(tmp_path):
    """Half of the segments flip to the next class; the files hold 10 c and 20 c for class c."""
    labels = np.kron(np.arange(120).reshape(60, 1, 2) % 3 + 1, np.ones((8, 8), int))
    predictions = np.where(np.arange(60)[:, None, None] % 2, labels, labels % 3 + 1)
    np.savez(tmp_path / "labels.npz", labels=10 * labels)
    np.savez(tmp_path / "predictions.npz", masks=20 * predictions)
    for side, unit in (("label", 10), ("prediction", 20)):
        rows = [f"{unit * c},{c}" for c in range(4)]
        (tmp_path / f"{side}.csv").write_text("\n".join(["from,to", *rows]))
    inputs = [f"--{side}s={tmp_path / side}s.npz" for side in ("label", "prediction")]
    maps = [f"--{side}_map={tmp_path / side}.csv" for side in ("label", "prediction")]
    out = tmp_path / "out"
    with pytest.warns(UserWarning, match="training images"):
        expected = context.context_beta(
            true := metrics.segments(predictions, labels, kind="masks", num_classes=4),
            context.context_evidence(true, context.image_shares(list(labels), num_classes=4), own=np.arange(60)),
            samples=20,
        )
    assert command.main([*inputs, *maps, "--samples=20", f"--out={out}"]) == 0
    assert pd.read_csv(out / "beta.csv")["flips"][0] == expected.flips == (true["outcome"] == "flip").sum()
    assert pd.read_csv(out / "beta.csv")["beta"][0] == pytest.approx(expected.beta, abs=1e-5)
    matrix = pd.read_csv(out / "flip_matrix.csv", index_col=0).to_numpy()
    assert matrix.shape == (4, 4) and np.trace(matrix) == len(true) - expected.flips
    training = f"--training_labels={tmp_path / 'labels.npz'}"
    assert command.main([*inputs, *maps, training, "--samples=20", f"--out={tmp_path / 'training'}"]) == 0
    shares = [pd.read_csv(folder / "shares.csv").iloc[:, 1:] for folder in (out, tmp_path / "training")]
    pd.testing.assert_frame_equal(*shares)
    assert command.main([*inputs, *maps[:1], f"--out={tmp_path / 'unmapped'}"]) == 2
    assert not (tmp_path / "unmapped").exists()
