"""Files and values that an audit refuses, each in one line that names the file."""

import io
import os
import re

import numpy as np
import pytest
from audited import refused
from damage import KINDS, damaged
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flipjax.audit.arrays import ArrayReader, AuditError, Limits
from flipjax.audit.pairs import open_source

pytestmark = pytest.mark.usefixtures("without_pictures")
GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, 3, (4, 6, 7)).astype(np.uint8)
LOGITS = (GENERATOR.normal(size=(4, 6, 7, 3)) + np.eye(3)[LABELS]).astype(np.float32)
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
GROUPS = "name,group\np,0\nq,1\nr,2\ns,0\n"


def written(save, *arguments, **options):
    """The bytes that a function writes to its first argument."""
    stream = io.BytesIO()
    save(stream, *arguments, **options)
    return stream.getvalue()


def png(array, palette=False, **options):
    image = Image.fromarray(array)
    if palette:
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    return written(image.save, "PNG", **options)


def npy(array):
    return written(np.save, array)


def npz(save=np.savez, **arrays):
    return written(save, **arrays)


BROKEN = LOGITS.copy()
BROKEN[2, 1, 3, 0] = np.nan
TURNED = Image.Exif()
TURNED[0x112] = 6
GOOD = {f"a/{name}.npy": npy(z) for name, z in zip("pqrs", LOGITS, strict=True)} | {
    f"b/{name}.png": png(mask) for name, mask in zip("pqrs", LABELS, strict=True)
}
ZEROS = np.zeros((1, 600, 600, 3), np.float32)
FOLDERS = [
    ({"b/s.png": None, "b/t.png": png(LABELS[0])}, "without labels, 1: s; labels without a prediction, 1: t"),
    ({"a/q.npy": npy(LOGITS[1])[:-40]}, "q.npy: truncated: .* too few for its float32 values"),
    ({"b/q.png": png(np.zeros((6, 7, 3), np.uint8))}, "found a picture of mode RGB"),
    ({"b/q.png": png(np.where(np.arange(7) < 1, np.uint16(300), LABELS[1]))}, "found 300"),
    ({"b/q.png": png(LABELS[1], exif=TURNED)}, "b/q.png: .* that EXIF does not turn"),
    ({"a/q.npy": npy(LOGITS[1] * np.float64(1e300))}, "q.npy: "),
    ({"b/q.png": png(LABELS[1], save_all=True, append_images=[Image.fromarray(LABELS[2])])}, "found an animation"),
    ({"b/q.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 7 6\n"}, "b/q.png: damaged"),
    ({"b/q.jpg": b"", "b/q.png": None}, "expected files of type .npy .npz .png .nii .nii.gz, found 1: q.jpg"),
    ({"a/p.npz": npz(x=LOGITS[0])}, "a: expected a name an image, found some more than once, 1: p"),
    ({"a/q.npy": npy(LOGITS[:2])}, "q.npy: expected one image in each file of a folder, found 2"),
    ({"a/q.npy": npy(LOGITS[1, :5])}, r"expected predictions .* 1: q \(5, 7, 3\) with labels \(6, 7\)"),
    ({"a/q.npy": npy(np.moveaxis(LOGITS[1], -1, 0))}, "on the first axis in some images alone; pass --channels"),
    ({"a/q.npy": npy(np.concatenate([LOGITS[1]] * 2, -1))}, r"expected 3 classes .* as in p; found 1: q \(6\)"),
    ({name: None for name in GOOD if name[0] == "a"}, "expected files of type .npy .npz, found nothing there"),
    ({"g.csv": None}, "g.csv: .*No such file"),
    ({"g.csv": GROUPS[:19]}, "expected a group for each image; found none for 2: r, s"),
    ({"g.csv": GROUPS.replace("r,2", "r,x")}, r"expected integer groups, found others, 1: r \(x\)"),
    ({"g.csv": GROUPS.replace("q,1", "q,1_0")}, r"expected integer groups, found others, 1: q \(1_0\)"),
    ({"g.csv": GROUPS.replace("r,2", "r,9")}, "expected groups 0..3 .* found 3: 0, 1, 9"),
    ({"g.csv": GROUPS + "p,1\n"}, "expected a name an image, found some more than once, 1: p"),
    ({"g.csv": GROUPS + "t,1\n"}, "rows that name none, 1: t"),
    ({"g.csv": "name,group,group\np,0,1\nq,1,0\nr,2,3\ns,0,1\n"}, "several columns are called 'group'"),
    ({"g.csv": GROUPS.replace("s,0", "s,0,3")}, "line 5 has more fields than there are columns"),
    ({"g.csv": "image;class\n"}, "columns name and group; .*, found no row"),
    ({"out/mine.txt": b"x"}, "--out: .* found other files"),
    ({"out/summary.json": b'{"program": "mine"}'}, "--out: .* found other files"),
]
VALUES = [
    (BROKEN, LABELS, "", r"logits.npy row 2: .* found 1 without, the first at row 1, column 3, of nan"),
    (np.where(np.arange(3) < 3, -np.inf, LOGITS), LABELS, "", "row 0: expected a finite .* found 42 without"),
    (LOGITS.argmax(-1), LABELS, "", "in floating point; for class indices pass --kind masks; found int64"),
    (PROBABILITIES, LABELS, "", "logits.npy row 0: expected logits, .* pass --kind probabilities"),
    (LOGITS, LABELS, "--kind=probabilities", "logits.npy row 0: expected values in 0..1 .* pass --kind logits"),
    (LOGITS, 2 * np.eye(3, dtype=int)[LABELS], "", "labels.npy row 0: expected class indices or a one-hot mask"),
    (LOGITS, LABELS.astype(float), "", "of an integer type; found float64"),
    (LOGITS, np.where(LABELS == 1, 255, LABELS), "", "labels.npy row 0: .* 0..2 .* found 255. .* --ignore_index 255"),
    (LOGITS, LABELS[:3], "", "found 4 predictions and 3 labels"),
    (LOGITS[..., :2], LABELS % 2, "", "logits.npy: expected at least 3 classes .* found 2"),
    (LOGITS, LABELS, "--channels=first", r"predictions \(C, H, W\) for labels \(H, W\); found others, 4: 0"),
    (LOGITS[:, :3, :3], LABELS[:, :3, :3], "", "on the first or on the last axis; pass --channels first or --channels"),
    (LOGITS, LABELS, "--background=3", "--background: expected classes in 0..2, found 3"),
    (LOGITS, LABELS, "--background=x", "expected a class, several as 0,1,2, or none; found 'x'"),
    (LOGITS, LABELS, "--class_names=a,b,c,d", "--class_names: expected 3 different names"),
    (np.array([{}, {}]), LABELS, "", "pickled Python objects, which are never loaded"),
    (LOGITS[:0], LABELS[:0], "", "expected images, found an array of shape"),
    (LOGITS, LABELS, "--max_pixels=41", "expected at most 41 pixels, found 42 .--max_pixels sets the limit"),
    (LOGITS, LABELS, "--max_bytes=500", "at most 500 bytes, found 504 .--max_bytes sets"),
    (LOGITS, LABELS, "--max_unpacked=99", "matrices .* at most 99 bytes, found 144 .--max_unpacked"),
    (npz(np.savez_compressed, x=ZEROS), LABELS, "--max_unpacked=9999", "unpacks to 4,320,128 bytes, more than 9,999"),
    (npz(logits=LOGITS, names=[*"pqrs"]), npz(labels=LABELS, names=[*"pqsr"]), "", "order of the rows, 2: r, s"),
    (npz(logits=LOGITS, names=[*"pq"]), LABELS, "", "names.*: expected 4 strings"),
    (npz(scores=LOGITS, others=LOGITS), LABELS, "", "an array named logits, or for each image .* 2: scores"),
    (npz(**{f"n{i}": z for i, z in enumerate(LOGITS)}), LABELS, "", "matched by name, those of a stack by place"),
]


def inputs(folder, logits, labels):
    """Writes both files and returns the options that name them."""
    for name, data in ("logits", logits), ("labels", labels):
        data = data if isinstance(data, bytes) else npy(data)
        path = folder / f"{name}.{'npz' if data[:2] == b'PK' else 'npy'}"
        path.write_bytes(data)
        yield f"--{name}={path}"
    yield f"--out={folder / 'out'}"


def folders(root, change):
    """Writes the good folders with a change, and returns the options that name them."""
    for name, data in (GOOD | change).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if data is not None:
            (root / name).write_bytes(data.encode() if isinstance(data, str) else data)
    groups = [f"--groups={root / 'g.csv'}"] if "g.csv" in change else []
    return [f"--logits={root / 'a'}", f"--labels={root / 'b'}", f"--out={root / 'out'}", *groups]


def images_of(path, wanted):
    with ArrayReader() as reader:
        return [reader.read(array) for array in open_source(path, wanted=wanted, limits=Limits()).images]


def test_forms_of_the_same_numbers(tmp_path):
    arrays = (np.asfortranarray(LOGITS[1]), LOGITS[1].astype(">f4"), LOGITS[1] * 1.0, LOGITS[1].astype(np.longdouble))
    forms = [*({"a/q.npy": npy(array)} for array in arrays), {"b/q.png": png(LABELS[1].astype(np.uint16))}]
    forms += [{"b/q.png": png(LABELS[1], palette=True, **options)} for options in ({}, {"transparency": 1})]
    forms += [{"a/q.npy": npy(LOGITS[1:2])}]
    for index, form in enumerate(forms):
        root = tmp_path / str(index)
        folders(root, form)
        np.testing.assert_array_equal(images_of(root / "a", "logits"), LOGITS, err_msg=str(index))
        np.testing.assert_array_equal(images_of(root / "b", "labels"), LABELS, err_msg=str(index))


@pytest.mark.parametrize(("change", "says"), FOLDERS)
def test_bad_folders(capsys, tmp_path, change, says):
    line = refused(capsys, *folders(tmp_path, change))
    assert re.search(says, line), line
    assert not (tmp_path / "out/mine.txt").exists() or (tmp_path / "out/mine.txt").read_bytes() == b"x"


@pytest.mark.parametrize(("logits", "labels", "option", "says"), VALUES)
def test_bad_values_and_stacks(capsys, tmp_path, logits, labels, option, says):
    line = refused(capsys, *inputs(tmp_path, logits, labels), *filter(None, [option]))
    assert re.search(says, line), line


def test_groups_by_position(capsys, tmp_path):
    for row, says in (("00", "more than once, 1: 0"), ("9" * 5000, "rows that name none, 1: 999")):
        (tmp_path / "g.csv").write_text(f"name,group\n0,1\n1,0\n2,0\n3,1\n{row},2\n")
        assert says in refused(capsys, *inputs(tmp_path, LOGITS, LABELS), "--groups", tmp_path / "g.csv")


FILES = {"a.npy": npy(LABELS), "b.npz": npz(np.savez_compressed, labels=LABELS), "d.png": png(LABELS[0])}
FILES["c.npz"] = npz(**{f"n{i}": mask for i, mask in enumerate(LABELS)})


@given(st.sampled_from(sorted(FILES)), st.sampled_from(KINDS), st.integers(0, 1 << 16), st.integers(0, 255))
@settings(max_examples=int(os.environ.get("FLIPJAX_FUZZ", 80)), deadline=None, derandomize=True, database=None)
def test_a_damaged_file_is_an_error_or_the_same_labels(tmp_path_factory, name, kind, place, value):
    """npy has no checksum: there another value may come out. All others give the same labels, or one line."""
    path = tmp_path_factory.mktemp("fuzz") / name
    path.write_bytes(damaged(FILES[name], kind, place, value))
    try:
        labels = images_of(path, "labels")
    except AuditError as error:
        assert name in str(error)
        return
    wanted = LABELS[:1] if name == "d.png" else LABELS
    if name != "a.npy" and len(labels) == len(wanted):
        np.testing.assert_array_equal(labels, wanted)
