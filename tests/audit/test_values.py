"""Values that an audit refuses, and what it says of them."""

import re

import numpy as np
import pytest

from audit.arrays import LABELS, LOGITS, PROBABILITIES, broken_npz, each_npz, named_npz, npy, refused


def with_value(array, value):
    changed = array.copy()
    changed[2, 1, 3, 0] = value
    return changed


@pytest.mark.parametrize(
    ("logits", "labels", "options", "says"),
    [
        (with_value(LOGITS, np.nan), LABELS, (), r"logits.npy row 2: .* found 1 NaN, the first at row 1, column 3"),
        (
            with_value(LOGITS, np.inf).astype(np.float16),
            LABELS,
            (),
            "row 2: expected finite scores, found 1 inf: float16",
        ),
        (LOGITS.argmax(-1), LABELS, (), "expected logits in floating point, found int64"),
        ((PROBABILITIES * 255).astype(np.uint8), LABELS, ("--kind", "probabilities"), "found uint8 of shape"),
        (PROBABILITIES, LABELS, (), "pass --kind probabilities"),
        (LOGITS, LABELS, ("--kind", "probabilities"), "probabilities in 0..1, found .*; for logits pass --kind logits"),
        (1 / (1 + np.exp(-LOGITS)), LABELS, ("--kind", "probabilities"), "sum to 1 over the classes, found .* sigmoid"),
        (LOGITS, np.eye(3, dtype=int)[LABELS], (), "one-hot, save labels.argmax"),
        (LOGITS[0], np.eye(3, dtype=int)[LABELS[0]], (), "one-hot, save labels.argmax"),
        (LOGITS, LABELS[..., None], (), "save them without the axis of length 1"),
        (LOGITS, LABELS.astype(float), (), "integer type, found float64; save labels.astype"),
        (LOGITS, np.where(LABELS == 1, 255, LABELS), (), r"class indices 0..2, found 255; .* --ignore_index 255"),
        (LOGITS, LABELS + 2, ("--ignore_index", 255), "0..2 or --ignore_index 255, found 3, 4"),
        (LOGITS, LABELS[:3], (), "found 4 predictions in .* and 3 labels in"),
        (LOGITS, LABELS[:, :5], (), r"found others, 4: 0 \(6, 7, 3\) with labels \(5, 7\), 1"),
        (LOGITS[..., :2], LABELS % 2, (), "at least 3 classes .* found 2 on the last axis"),
        (LOGITS, LABELS, ("--channels", "first"), r"expected classes on the last axis of .* shape \(6, 7, 3\)"),
        (LOGITS[:, :3, :3], LABELS[:, :3, :3], (), "pass --channels first or --channels last"),
        (LOGITS, LABELS, ("--background", 3), "--background: expected a class in 0..2, found 3"),
        (LOGITS, LABELS, ("--class_names", "a,b,c,d"), "--class_names: expected 3 different names"),
        (LOGITS, LABELS, ("--kind", "scores"), "invalid choice: 'scores'"),
        (np.array([{}, {}]), LABELS, (), r"pickled Python objects, .* \(allow_pickle=False\)"),
        (LOGITS.view("V2"), LABELS, (), r"found dtype \|?V2 \(bfloat16, perhaps\)"),
        (LOGITS[:0], LABELS[:0], (), "expected images, found an array of shape"),
        (LOGITS[:, :0], LABELS[:, :0], (), "found some without pixels, 4: 0, 1"),
        (LOGITS, LABELS, ("--max_pixels", 41), "expected at most 41 pixels, found 42 .--max_pixels sets the limit"),
        (LOGITS, LABELS, ("--max_bytes", 500), "at most 500 bytes, found 504 .--max_bytes sets"),
        (LOGITS, LABELS, ("--max_unpacked", 99), "matrices of at most 99 bytes in all, found 144 .--max_unpacked"),
        (LOGITS.astype(complex), LABELS, (), "floating point, found complex128"),
    ],
)
def test_bad_values(capsys, tmp_path, logits, labels, options, says):
    np.save(tmp_path / "logits.npy", logits)
    np.save(tmp_path / "labels.npy", labels)
    inputs = ["--logits", tmp_path / "logits.npy", "--labels", tmp_path / "labels.npy", "--out", tmp_path / "out"]
    line = refused(capsys, *inputs, *options)
    assert re.search(says, line), line


@pytest.mark.parametrize(
    ("logits", "labels", "says"),
    [
        (
            named_npz("pqrs", logits=LOGITS),
            named_npz("pqsr", labels=LABELS),
            "another order: rows that differ, 2: r, s",
        ),
        (named_npz("pqrs", logits=LOGITS), named_npz("pqrt", labels=LABELS), "predictions without labels, 1: s"),
        (named_npz("pqrr", logits=LOGITS), npy(LABELS), "names that stand more than once, 1: r"),
        (named_npz("pq", logits=LOGITS), npy(LABELS), "names.*: expected 4 strings"),
        (
            named_npz("pqrs", scores=LOGITS, others=LOGITS),
            npy(LABELS),
            "expected an array named logits, or for each image an array of 3 axes; found 3: scores",
        ),
        (each_npz(LOGITS), npy(LABELS), "matched by name, those of a stack by position"),
        (npy(LOGITS), broken_npz(LABELS), "labels.npz.*: (damaged|truncated|expected an array)"),
        (npy(LOGITS), b"PK", "labels.npz: damaged"),
        (named_npz("pqrs", labels=LABELS, images=LABELS), npy(LABELS), "expected an array named logits"),
    ],
)
def test_bad_stacks(capsys, tmp_path, logits, labels, says):
    paths = []
    for name, data in ("logits", logits), ("labels", labels):
        paths.append(tmp_path / f"{name}.{'npz' if data[:2] == b'PK' else 'npy'}")
        paths[-1].write_bytes(data)
    line = refused(capsys, "--logits", paths[0], "--labels", paths[1], "--out", tmp_path / "out")
    assert re.search(says, line), line


@pytest.mark.parametrize("rows", ["0,1\n00,2\n1,0\n2,0\n3,1\n", "0,1\n00,2\n2,0\n3,1\n"])
def test_two_rows_for_one_position(capsys, tmp_path, rows):
    np.save(tmp_path / "logits.npy", LOGITS)
    np.save(tmp_path / "labels.npy", LABELS)
    (tmp_path / "g.csv").write_text(f"name,group\n{rows}")
    options = ["--labels", tmp_path / "labels.npy", "--groups", tmp_path / "g.csv", "--out", tmp_path / "out"]
    assert "several rows for one image, 1: 0" in refused(capsys, "--logits", tmp_path / "logits.npy", *options)


def test_a_position_of_thousands_of_digits(capsys, tmp_path):
    np.save(tmp_path / "logits.npy", LOGITS)
    np.save(tmp_path / "labels.npy", LABELS)
    (tmp_path / "g.csv").write_text(f"name,group\n{'9' * 5000},1\n0,1\n1,0\n2,0\n3,1\n")
    options = ["--labels", tmp_path / "labels.npy", "--groups", tmp_path / "g.csv", "--out", tmp_path / "out"]
    assert "rows that name none, 1: '999" in refused(capsys, "--logits", tmp_path / "logits.npy", *options)
