"""Files that an audit refuses: missing, strange, damaged."""

import io
import os
import re
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from audit.arrays import GOOD, LABELS, LOGITS, bomb, flipped, npy, png, refused
from flipjax.audit.arrays import AuditError, Limits, Reader
from flipjax.audit.sources import open_source


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"b/s.png": None, "b/t.png": png(LABELS[0])}, "without labels, 1: s; labels without a prediction, 1: t"),
        ({"a/q.npy": npy(LOGITS[1])[:-40]}, "q.npy: truncated: .* too few for its float32 values"),
        ({"a/q.npy": npy(LOGITS[1])[:30]}, "q.npy: expected an array as np.save writes it"),
        ({"a/q.npy": b"no array at all"}, "q.npy: expected an array as np.save writes it"),
        ({"b/q.png": png(LABELS[1])[:-30]}, "b/q.png: .*(damaged|cannot be read)"),
        ({"b/q.png": b"no picture"}, "b/q.png: damaged, truncated or of another type"),
        ({"b/q.png": png(np.zeros((6, 7, 3), np.uint8))}, "found a picture of mode RGB"),
        ({"b/q.jpg": b"", "b/q.png": None}, "no JPEG, whose compression .* 1: q.jpg"),
        ({"a/notes.txt": b"x"}, "expected files of type .npy .npz; found others, 1: notes.txt"),
        ({"a/p.npz": b""}, "a/p.npz: damaged|names that stand for more than one file, 1: p"),
        ({"a/q.npy": npy(LOGITS[1, :5])}, r"expected predictions .* 1: q \(5, 7, 3\) with labels \(6, 7\)"),
        ({"a/q.npy": npy(np.moveaxis(LOGITS[1], -1, 0))}, "first axis in some, 1: q"),
        ({"a/q.npy": npy(np.concatenate([LOGITS[1]] * 2, -1))}, r"expected 3 classes .* as in p; found 1: q \(6\)"),
        ({name: None for name in GOOD if name[0] == "a"}, "the folder is empty"),
        ({"g.csv": b"name,group\np,0\nq,1\n"}, "expected a group for each image; none for 2: r, s"),
        ({"g.csv": b"name,group\np,0\nq,1\nr,x\ns,0\n"}, "expected an integer group for r, found 'x'"),
        ({"g.csv": b"name,group\np,0\nq,1\nr,9\ns,0\n"}, "expected groups 0..3 .* found 0, 1, 9"),
        ({"g.csv": b"name,group\np,0\nq,1\nr,2\ns,0\np,1\n"}, "several rows for one name, 1: p"),
        ({"g.csv": b"name,group,group\np,0,1\nq,1,0\nr,2,3\ns,0,1\n"}, "several columns are called 'group'"),
        ({"g.csv": b"name,group\np,0\nq,1\nr,2\ns,0,3\n"}, "line 5 has more fields than there are columns"),
        ({"g.csv": b"name,group\np,0\nq,1_0\nr,2\ns,0\n"}, "expected an integer group for q, found '1_0'"),
        ({"g.csv": b"name,group\n1/p.a,0\n2/p.a,1\nq,1\nr,2\ns,0\n"}, "several rows for one image, 1: p"),
        ({"g.csv": b"image;class\n"}, "columns name and group, found no row"),
        ({"g.csv": b"name,group\np,0\nq,1\nr,2\ns,0\nt,1\n"}, "rows that name none, 1: 't'"),
        ({"g.csv": b"name,group\np," + b"9" * 5000 + b"\nq,1\nr,2\ns,0\n"}, "integer group for p, found '9999"),
        ({"b/q.png": flipped(png(LABELS[1]), b"IDAT", 6)}, "b/q.png: damaged"),
        ({"b/q.png": png(LABELS[1], save_all=True, append_images=[Image.fromarray(LABELS[2])])}, "found an animation"),
        ({"b/q.png": png(LABELS[1], pnginfo=bomb())}, "b/q.png: damaged"),
        ({"b/q.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 7 6\n"}, "b/q.png: damaged"),
        ({"a/q.npy": None, "a/q\x1b[31m.npy": npy(LOGITS[1])}, r"control characters, found 1: 'q\\x1b\[31m'"),
        ({"out/mine.txt": b"x"}, "--out: .* found other files"),
        ({"out/summary.json": b"[]"}, "--out: .* found other files"),
        ({"out": b"a file"}, "--out: expected a folder that can be written"),
    ],
)
def test_bad_folders(capsys, tmp_path, change, says):
    for name, data in (GOOD | change).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if data is not None:
            (tmp_path / name).write_bytes(data)
    groups = ["--groups", tmp_path / "g.csv"] if "g.csv" in change else []
    line = refused(capsys, "--logits", tmp_path / "a", "--labels", tmp_path / "b", "--out", tmp_path / "out", *groups)
    assert re.search(says, line), line
    for name, data in change.items():
        assert data is None or (tmp_path / name).read_bytes() == data


def test_a_file_that_is_not_there_or_no_array(capsys, tmp_path):
    (tmp_path / "a.txt").write_text("x")
    options = ["--labels", tmp_path, "--out", tmp_path / "out"]
    assert "found nothing there" in refused(capsys, "--logits", tmp_path / "no.npy", *options)
    assert "expected a file of type .npy .npz; found" in refused(capsys, "--logits", tmp_path / "a.txt", *options)
    assert "--logits" in refused(capsys, *options)
    assert "unrecognized arguments: --label_smoothing" in refused(
        capsys, "--logits", "a", *options, "--label_smoothing"
    )


def test_no_zip_but_of_arrays(capsys, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "x")
    line = refused(capsys, "--logits", tmp_path / "a.npz", "--labels", tmp_path / "a.npz", "--out", tmp_path / "out")
    assert "expected arrays as np.savez writes them, found 'readme.txt' inside" in line


def test_a_fifo_and_a_device_are_refused_at_once(capsys, tmp_path):
    for name in ("logits", "labels"):
        (tmp_path / name).mkdir()
    np.save(tmp_path / "labels" / "a.npy", LABELS[0])
    os.mkfifo(tmp_path / "logits" / "a.npy")
    options = ["--labels", tmp_path / "labels", "--out", tmp_path / "out"]
    assert "found others, 1: a.npy" in refused(capsys, "--logits", tmp_path / "logits", *options)
    assert "found others, 1: a.npy" in refused(capsys, "--logits", tmp_path / "logits" / "a.npy", *options)
    assert "found others, 1: zero" in refused(capsys, "--logits", "/dev/zero", *options)
    np.save(tmp_path / "logits.npy", LOGITS[0])
    groups = ["--groups", tmp_path / "logits" / "a.npy"]
    assert "found no file" in refused(capsys, "--logits", tmp_path / "logits.npy", *options, *groups)


def test_an_archive_that_unpacks_to_more_than_is_allowed(capsys, tmp_path):
    np.savez_compressed(tmp_path / "a.npz", logits=np.zeros((1, 600, 600, 3), np.float32))
    assert (tmp_path / "a.npz").stat().st_size < 100_000
    np.save(tmp_path / "labels.npy", np.zeros((1, 600, 600), np.uint8))
    options = ["--labels", tmp_path / "labels.npy", "--out", tmp_path / "out", "--max_unpacked", 1_000_000]
    line = refused(capsys, "--logits", tmp_path / "a.npz", *options)
    assert "unpacks to 4,320,128 bytes, more than 1,000,000 (--max_unpacked sets the limit)" in line


def test_a_stack_in_fortran_order_is_read_row_by_row(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(LOGITS))
    with Reader() as reader:
        source = open_source(tmp_path / "a.npy", wanted="logits", rank=3, reader=reader)
        for place, wanted in zip(source.places, LOGITS, strict=True):
            np.testing.assert_array_equal(reader.read(place.array, place.row), wanted)


def files_of(stem):
    """One small file of each kind."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **{stem: LABELS})
    each = io.BytesIO()
    np.savez(each, **{f"n{i}": mask for i, mask in enumerate(LABELS)})
    return {"a.npy": npy(LABELS), "b.npz": stream.getvalue(), "c.npz": each.getvalue(), "d.png": png(LABELS[0])}


@given(
    st.sampled_from(sorted(files_of("labels"))),
    st.sampled_from(["bit", "bytes", "cut", "twice"]),
    st.integers(0, 1 << 16),
    st.integers(0, 255),
)
@settings(max_examples=int(os.environ.get("FLIPJAX_FUZZ", 80)), deadline=None, derandomize=True, database=None)
def test_a_damaged_file_is_an_error_or_the_same_labels(tmp_path_factory, name, kind, place, value):
    """npy has no checksum: there another value may come out. All others give the same labels, or one line."""
    data = files_of("labels")[name]
    place %= len(data)
    changed = {
        "bit": data[:place] + bytes([data[place] ^ 1 << value % 8]) + data[place + 1 :],
        "bytes": data[:place] + bytes(value + k & 255 for k in range(16)) + data[place + 16 :],
        "cut": data[:place],
        "twice": data + data[:place],
    }[kind]
    path = tmp_path_factory.mktemp("fuzz") / name
    path.write_bytes(changed)
    try:
        with Reader() as reader:
            source = open_source(path, wanted="labels", rank=2, reader=reader, limits=Limits(unpacked=1 << 20))
            labels = [reader.read(place.array, place.row) for place in source.places]
    except AuditError as error:
        assert name in str(error)
        return
    wanted = LABELS[:1] if name == "d.png" else LABELS
    if name != "a.npy" and len(labels) == len(wanted):
        np.testing.assert_array_equal(labels, wanted)
