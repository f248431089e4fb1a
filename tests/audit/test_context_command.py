"""The numbers of flipjax.context in an audit, and those of its own command."""

import numpy as np
import pandas as pd
import pytest
from audited import audit, segments_of

from flipjax import context, metrics
from flipjax.audit import context_command as command

pytestmark = pytest.mark.usefixtures("without_pictures")


def test_they_are_those_of_the_labels_at_hand_and_few_flips_have_none(tmp_path, capsys):
    """64 images of four segments of 64 pixels; three in ten flip. The file of predictions holds 20 c for class c."""
    generator = np.random.default_rng(0)
    cells = np.array([generator.permutation(6)[:4] for _ in range(64)]).reshape(64, 2, 2)
    flips = (generator.random(cells.shape) < 0.3) & (cells > 0)
    predicted = np.where(flips, 1 + (cells + generator.integers(0, 4, cells.shape)) % 5, cells)
    predictions, labels = (np.kron(each, np.ones((8, 8), int)) for each in (predicted, cells))
    (tmp_path / "map.csv").write_text("from,to\n" + "".join(f"{20 * c},{c}\n" for c in range(6)))
    inputs = [f"--{name}={tmp_path}/in.npz" for name in ("predictions", "labels")]
    inputs += [f"--prediction_map={tmp_path}/map.csv"]
    for images in (16, 64):
        np.savez(tmp_path / "in.npz", masks=20 * predictions[:images], labels=labels[:images])
        found = audit(tmp_path / "out", *inputs, "--kind=masks")
        assert ("context" in found) == (images == 64)
    true = metrics.segments(predictions, labels, kind="masks", num_classes=6)
    shares = context.image_shares(list(labels), num_classes=6)
    with pytest.warns(UserWarning, match="training images"):
        evidence = context.context_evidence(true, shares, own=np.arange(64))
    expected = context.context_beta(true, evidence)
    for name, value in expected._asdict().items():
        assert found["context"]["beta"][name] == pytest.approx(value, abs=1e-6), name
    table, flip = segments_of(tmp_path / "out"), (true["outcome"] == "flip").to_numpy()
    np.testing.assert_allclose(table["evidence"][flip], evidence[flip, true["predicted"][flip]])
    assert table["evidence"][~flip].isna().all()

    def command_of(out, *more):
        return command.main([*inputs, "--samples=50", f"--out={tmp_path / out}", *more])

    assert command_of("command", "--class_names=a,b,c,d,e") == 0
    stored = pd.read_csv(tmp_path / "command/beta.csv").iloc[0]
    assert stored["beta"] == pytest.approx(expected.beta, abs=1e-5)
    matrix = pd.read_csv(tmp_path / "command/flip_matrix.csv", index_col=0).to_numpy()
    assert matrix.shape == (6, 6) and np.trace(matrix) == len(true) - expected.flips
    assert f"{expected.beta:.3f} [" in (tmp_path / "command/index.html").read_text()
    assert list(pd.read_csv(tmp_path / "command/shares.csv").columns) == ["name", "background", *"abcde"]
    for training in ("in.npz", "command/shares.csv"):
        assert command_of("again", "--class_names=a,b,c,d,e", f"--training_labels={tmp_path / training}") == 0
        for name in ("beta.csv", "flip_matrix.csv", "segments.csv", "shares.csv"):
            assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "command" / name).read_bytes(), name
    (tmp_path / "wrong.csv").write_text("name,a\n1,2\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("kept")
    np.savez(tmp_path / "same.npz", masks=20 * labels)
    for out, (option, path), expected in (
        ("none", ("predictions", "same.npz"), "flips: expected at least 50, found 0"),
        ("none", ("predictions", "none"), "nothing there"),
        ("none", ("training_labels", "wrong.csv"), "wrong.csv: expected"),
        ("mine", ("labels", "in.npz"), "--out: expected"),
    ):
        assert command_of(out, f"--{option}={tmp_path / path}") == 2
        assert expected in capsys.readouterr().err.splitlines()[-1]
    assert (tmp_path / "mine/notes.txt").read_text() == "kept" and not (tmp_path / "none").exists()
