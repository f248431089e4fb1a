"""Files and values that an audit refuses, each in one line that names the file."""

import io
import os
import re
import zipfile

import numpy as np
import pytest
from damage import KINDS, damaged
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flipjax.audit.__main__ import main
from flipjax.audit.arrays import ArrayReader, AuditError, Limits
from flipjax.audit.read import open_source

pytestmark = pytest.mark.usefixtures("without_pictures")
GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, 3, (4, 6, 7)).astype(np.uint8)
LOGITS = (GENERATOR.normal(size=(4, 6, 7, 3)) + np.eye(3)[LABELS]).astype(np.float32)
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
ONE_HOT = np.eye(3, dtype=int)[LABELS]
GROUPS = "name,group\np,0\nq,1\nr,2\ns,0\n"


def written(save, *arguments, **options):
    """The bytes that a function writes to its first argument."""
    stream = io.BytesIO()
    save(stream, *arguments, **options)
    return stream.getvalue()


def png(array, kind="PNG", palette=False, **options):
    image = Image.fromarray(array)
    if palette:
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    return written(image.save, kind, **options)


def npy(array):
    return written(np.save, array)


def npz(save=np.savez, **arrays):
    return written(save, **arrays)


def changed(value):
    array = LOGITS.copy()
    array[2, 1, 3, 0] = value
    return array


TURNED = Image.Exif()
TURNED[0x112] = 6
GOOD = {f"a/{name}.npy": npy(z) for name, z in zip("pqrs", LOGITS, strict=True)} | {
    f"b/{name}.png": png(mask) for name, mask in zip("pqrs", LABELS, strict=True)
}
MASK = GOOD["b/q.png"]
SHORT = npz(np.savez_compressed, labels=LABELS)
FOLDERS = [
    ({"b/s.png": None, "b/t.png": png(LABELS[0])}, "without labels, 1: s; labels without a prediction, 1: t"),
    ({"a/q.npy": npy(LOGITS[1])[:-40]}, "q.npy: truncated: .* too few for its float32 values"),
    ({"a/q.npy": b"no array at all"}, "q.npy: damaged"),
    ({"b/q.png": MASK[:-30]}, "b/q.png: damaged"),
    ({"b/q.png": png(np.zeros((6, 7, 3), np.uint8))}, "found a picture of mode RGB"),
    ({"b/q.png": png(np.where(np.arange(7) < 1, np.uint16(300), LABELS[1]))}, "found 300"),
    ({"b/q.png": png(LABELS[1], exif=TURNED)}, "b/q.png: "),
    ({"b/q.png": png(LABELS[1], "GIF")}, "b/q.png: damaged, of another type"),
    ({"a/q.npy": npy(LOGITS[1] * np.float64(1e300))}, "q.npy: "),
    ({"b/q.png": png(LABELS[1], save_all=True, append_images=[Image.fromarray(LABELS[2])])}, "found an animation"),
    ({"b/q.png": png(LABELS[1], icc_profile=bytes(1 << 21))}, "b/q.png: damaged"),  # Unpacks to more than Pillow reads.
    ({"b/q.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 7 6\n"}, "b/q.png: damaged"),
    ({"b/q.jpg": b"", "b/q.png": None}, "expected files of type .npy .npz .png .nii .nii.gz, found 1: q.jpg"),
    ({"a/p.npz": npz(x=LOGITS[0])}, "a: expected a name an image, found some more than once, 1: p"),
    ({"a/q.npy": npy(LOGITS[1, :5])}, r"expected predictions .* 1: q \(5, 7, 3\) with labels \(6, 7\)"),
    ({"a/q.npy": npy(np.moveaxis(LOGITS[1], -1, 0))}, "on the first axis in some images alone; pass --channels"),
    ({"a/q.npy": npy(np.concatenate([LOGITS[1]] * 2, -1))}, r"expected 3 classes .* as in p; found 1: q \(6\)"),
    ({"a/q.npy": None, "a/q\x1b[31m.npy": npy(LOGITS[1])}, r"control characters, found 1: 'q\\x1b\[31m'"),
    ({name: None for name in GOOD if name[0] == "a"}, "expected files of type .npy .npz, found nothing there"),
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
    ({"out": b"a file"}, "--out: expected a folder that can be written"),
]
VALUES = [
    (changed(np.nan), LABELS, "", r"logits.npy row 2: .* found 1 without, the first at row 1, column 3, of nan"),
    (np.where(np.arange(3) < 3, -np.inf, LOGITS), LABELS, "", "row 0: expected a finite .* found 42 without"),
    (LOGITS.argmax(-1), LABELS, "", "in floating point; for class indices pass --kind masks; found int64"),
    ((PROBABILITIES * 255).astype(np.uint8), LABELS, "--kind=probabilities", "in floating point; .* found uint8"),
    (PROBABILITIES, LABELS, "", "logits.npy row 0: expected logits, .* pass --kind probabilities"),
    (LOGITS, LABELS, "--kind=probabilities", "logits.npy row 0: expected values in 0..1 .* pass --kind logits"),
    (1 / (1 + np.exp(-LOGITS)), LABELS, "--kind=probabilities", "row 0: .* not a sigmoid"),
    (LOGITS, ONE_HOT, "", "labels.npy: expected class indices .* the argmax of one-hot ones; found int64 of shape"),
    (LOGITS[0], ONE_HOT[0], "", "matched by name, those of a stack by place"),
    (LOGITS, LABELS[..., None], "", r"labels.npy: expected class indices .* found uint8 of shape \(4, 6, 7, 1\)"),
    (LOGITS, LABELS.astype(float), "", "of an integer type, .* found float64"),
    (LOGITS, np.where(LABELS == 1, 255, LABELS), "", "labels.npy row 0: .* 0..2 .* found 255. .* --ignore_index 255"),
    (LOGITS, LABELS + 2, "--ignore_index=255", "0..2 and --ignore_index 255 for 3 classes, found 3, 4"),
    (LOGITS, LABELS[:3], "", "found 4 predictions and 3 labels"),
    (LOGITS, LABELS[:, :5], "", r"found others, 4: 0 \(6, 7, 3\) with labels \(5, 7\), 1"),
    (LOGITS[..., :2], LABELS % 2, "", "logits.npy: expected at least 3 classes .* found 2"),
    (LOGITS, LABELS, "--channels=first", r"predictions \(C, H, W\) for labels \(H, W\); found others, 4: 0"),
    (LOGITS[:, :3, :3], LABELS[:, :3, :3], "", "on the first or on the last axis; pass --channels first or --channels"),
    (LOGITS, LABELS, "--background=3", "--background: expected classes in 0..2, found 3"),
    (LOGITS, LABELS, "--class_names=a,b,c,d", "--class_names: expected 3 different names"),
    (LOGITS, LABELS, "--kind=scores", "invalid choice: 'scores'"),
    (np.array([{}, {}]), LABELS, "", "pickled Python objects, which are never loaded"),
    (LOGITS[:0], LABELS[:0], "", "expected images, found an array of shape"),
    (LOGITS, LABELS, "--max_pixels=41", "expected at most 41 pixels, found 42 .--max_pixels sets the limit"),
    (LOGITS, LABELS, "--max_bytes=500", "at most 500 bytes, found 504 .--max_bytes sets"),
    (LOGITS, LABELS, "--max_unpacked=99", "matrices .* at most 99 bytes, found 144 .--max_unpacked"),
]
STACKS = [
    (npz(logits=LOGITS, names=[*"pqrs"]), npz(labels=LABELS, names=[*"pqsr"]), "another order of the rows, 2: r, s"),
    (npz(logits=LOGITS, names=[*"pqrr"]), npy(LABELS), "found some more than once, 1: r"),
    (npz(logits=LOGITS, names=[*"pq"]), npy(LABELS), "names.*: expected 4 strings"),
    (npz(scores=LOGITS, others=LOGITS), npy(LABELS), "expected an array named logits, or for each image .* 2: scores"),
    (npz(**{f"n{i}": z for i, z in enumerate(LOGITS)}), npy(LABELS), "matched by name, those of a stack by place"),
    (npy(LOGITS), b"PK", "labels.npz: damaged"),
]


def refused(capsys, *arguments):
    """Runs the command line, which must refuse in one line, and returns the line."""
    assert main(list(map(str, arguments))) == 2
    lines = capsys.readouterr().err.splitlines()
    lines = [line for line in lines if not line.startswith("[") and "images of" not in line]
    assert len(lines) == 1 and lines[0].startswith("flipjax audit: ")
    return lines[0].removeprefix("flipjax audit: ")


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
            (root / name).write_bytes(data)
    groups = [f"--groups={root / 'g.csv'}"] if "g.csv" in change else []
    return [f"--logits={root / 'a'}", f"--labels={root / 'b'}", f"--out={root / 'out'}", *groups]


def test_forms_of_the_same_numbers(tmp_path):
    arrays = (np.asfortranarray(LOGITS[1]), LOGITS[1].astype(">f4"), LOGITS[1] * 1.0, LOGITS[1].astype(np.longdouble))
    forms = [{}, *({"a/q.npy": npy(array)} for array in arrays), {"b/q.png": png(LABELS[1].astype(np.uint16))}]
    forms += [{"b/q.png": png(LABELS[1], palette=True, **options)} for options in ({}, {"transparency": 1})]
    for index, form in enumerate(forms):
        assert main(folders(tmp_path / str(index), form)) == 0
        summary = (tmp_path / str(index) / "out/summary.csv").read_bytes()
        assert summary == (tmp_path / "0/out/summary.csv").read_bytes(), form


@pytest.mark.parametrize(("change", "says"), FOLDERS)
def test_bad_folders(capsys, tmp_path, change, says):
    change = {name: data.encode() if isinstance(data, str) else data for name, data in change.items()}
    line = refused(capsys, *folders(tmp_path, change))
    assert re.search(says, line), line
    for name, data in change.items():
        assert data is None or (tmp_path / name).read_bytes() == data


@pytest.mark.parametrize(("logits", "labels", "option", "says"), VALUES + [(a, b, "", c) for a, b, c in STACKS])
def test_bad_values_and_stacks(capsys, tmp_path, logits, labels, option, says):
    line = refused(capsys, *inputs(tmp_path, logits, labels), *[option][: len(option)])
    assert re.search(says, line), line


def test_groups_by_position(capsys, tmp_path):
    for row, says in (("00", "more than once, 1: 0"), ("9" * 5000, "rows that name none, 1: 999")):
        (tmp_path / "g.csv").write_text(f"name,group\n0,1\n1,0\n2,0\n3,1\n{row},2\n")
        assert says in refused(capsys, *inputs(tmp_path, LOGITS, LABELS), "--groups", tmp_path / "g.csv")


def test_what_is_no_file_of_arrays_is_refused_at_once(capsys, tmp_path):
    (tmp_path / "a.txt").write_text("x")
    os.mkfifo(tmp_path / "fifo.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "x")
    options = list(inputs(tmp_path, LOGITS, LABELS))
    for name, says in {
        "no.npy": "found nothing there",
        "a.txt": "expected files of type .npy .npz, found 1: a.txt",
        "fifo.npy": "found 1: fifo.npy",
        "/dev/zero": "found 1: zero",
        "a.npz": "expected arrays as np.savez writes them, found 'readme.txt'",
    }.items():
        assert says in refused(capsys, "--logits", tmp_path / name, *options[1:])
    assert "no.csv" in refused(capsys, *options, "--groups", tmp_path / "no.csv")
    assert "--logits" in refused(capsys, *options[1:])
    assert "unrecognized arguments: --label_smoothing" in refused(capsys, *options, "--label_smoothing")


def test_an_archive_that_unpacks_to_more_than_is_allowed(capsys, tmp_path):
    logits = npz(np.savez_compressed, logits=np.zeros((1, 600, 600, 3), np.float32))
    options = inputs(tmp_path, logits, np.zeros((1, 600, 600), np.uint8))
    line = refused(capsys, *options, "--max_unpacked", 1_000_000)
    assert "unpacks to 4,320,128 bytes, more than 1,000,000 (--max_unpacked sets the limit)" in line


def images_of(path, wanted):
    with ArrayReader() as reader:
        return [reader.read(array) for array in open_source(path, wanted=wanted, limits=Limits()).images]


def test_a_stack_in_fortran_order_is_read_row_by_row(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(LOGITS))
    np.testing.assert_array_equal(images_of(tmp_path / "a.npy", "logits"), LOGITS)


FILES = {
    "a.npy": npy(LABELS),
    "b.npz": SHORT,
    "c.npz": npz(**{f"n{i}": mask for i, mask in enumerate(LABELS)}),
    "d.png": png(LABELS[0]),
}


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
