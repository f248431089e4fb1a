"""An audit of batches is that of the command, byte for byte in its tables."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from audited import audit

from flipjax.audit import stream

pytestmark = pytest.mark.usefixtures("without_pictures")
NAMES = ["background", "cat", "dog", "cow"]
TABLES = ("images.csv", "flip_matrix.csv", "summary.csv", "segments.parquet", "segments.csv", "decomposition.npz")


def tables(folder):
    return {name: (folder / name).read_bytes() for name in TABLES if (folder / name).is_file()}


@pytest.mark.parametrize("kind", ["logits", "masks"])
def test_a_stream_is_the_command(kind, tmp_path):
    generator = np.random.default_rng(0)
    labels, groups = np.kron(generator.integers(0, 4, (14, 2, 2)), np.ones((8, 10), int)), np.arange(14) % 3
    logits = (generator.normal(0, 1.5, (14, 16, 20, 4)) + 2 * np.eye(4)[labels]).astype(np.float32)
    labels[:, 0, :3] = 255  # Ignored pixels.
    predictions = logits if kind == "logits" else logits.argmax(-1)
    np.savez(tmp_path / "in.npz", predictions=predictions, labels=labels, names=[f"i{k}" for k in range(14)])
    rows = "".join(f"i{k},{g}\n" for k, g in enumerate(groups))
    (tmp_path / "groups.csv").write_text(f"name,group\n{rows}")
    options = [f"--{name}={tmp_path / 'in.npz'}" for name in ("predictions", "labels")]
    options += ["--ignore_index=255", f"--kind={kind}", f"--class_names={','.join(NAMES)}"]
    audit(tmp_path / "command", *options, f"--groups={tmp_path / 'groups.csv'}")
    own = {"class_names": NAMES, "ignore_index": 255, "kind": kind}
    with stream(tmp_path / "stream", channels="first", **own) as batches:
        for at in (slice(0, 5), slice(5, 6), slice(6, 14)):
            part = np.moveaxis(logits[at], -1, 1) if kind == "logits" else jnp.asarray(predictions[at])
            batches.add(part, labels[at], names=[f"i{k}" for k in range(14)][at], groups=groups[at])
    found = tables(tmp_path / "stream")
    assert len(found) == 5 and found == tables(tmp_path / "command")
    pages = [(tmp_path / name / "index.html").read_text() for name in ("command", "stream")]
    pictures = [re.findall(r'src="(data:[^"]+)"', page) for page in pages]
    assert len(pictures[0]) > 20 and pictures[0] == pictures[1]
    assert batches.summary["n_images"] == 14


MISFITS = [
    ({"labels": np.zeros((2, 4, 5), int)}, "labels: expected"),
    ({"predictions": np.full((2, 4, 4, 4), 0.25)}, "expected logits, .* pass kind='probabilities'"),
    ({"predictions": np.full((2, 4, 4, 4), np.nan)}, "predictions: expected a finite largest score"),
    ({"predictions": np.ones((2, 4, 4, 6)) * 2}, "class_names: expected 6 different names"),
    ({"names": ["a", "a"]}, "names: expected a name an image, found some more than once, a"),
    ({"names": ["a"]}, "names: expected 2, one an image, found 1"),
    ({"groups": [0]}, r"groups: expected 2 integers"),
    ({"images": np.zeros((2, 4, 4, 3))}, r"images: expected uint8 of shape \(2, 4, 4, 3\), found float64"),
]


@pytest.mark.parametrize(("change", "message"), MISFITS)
def test_a_batch_that_does_not_fit_is_refused_whole(change, message, tmp_path):
    batch = {"predictions": np.arange(128.0).reshape(2, 4, 4, 4), "labels": np.zeros((2, 4, 4), int)}
    with pytest.raises(KeyError), stream(tmp_path / "out", class_names=NAMES) as batches:
        with pytest.raises((TypeError, ValueError), match=message):
            batches.add(**(batch | change))
        with pytest.raises(ValueError, match="expected at least one image, found none"):
            batches.close()
        batches.add(**batch)
        raise KeyError


def test_a_stream_says_what_it_takes_for_background_and_writes_nothing_after_an_error(tmp_path):
    labels = np.zeros((1, 2, 2), int)
    with pytest.raises(KeyError), stream(tmp_path / "out", class_names=["road", "car", "sky"], kind="masks") as batches:
        with pytest.warns(UserWarning, match="class 0, 'road', is taken for the background"):
            batches.add(labels, labels)
        raise KeyError
    assert not (tmp_path / "out").exists()
    for own, named in (({"kind": "masks"}, "num_classes"), ({"unit": "instance"}, "unit")):
        with pytest.raises(ValueError, match=f"{named}: expected"):
            stream(tmp_path / "c", **own)
