"""Inputs that an audit refuses: exit code 2, one line that names the thing, and nothing written."""

import functools
import io

import numpy as np
import pytest
from audited import refused
from damage import DAMAGES, FUZZ, damaged
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flipjax.audit.formats.problems import AuditError
from flipjax.audit.formats.sources import open_source

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


npy, npz = (functools.partial(written, save) for save in (np.save, np.savez))


TURNED = Image.Exif()
TURNED[0x112] = 6
GOOD = {f"a/{name}.npy": npy(z) for name, z in zip("pqrs", LOGITS, strict=True)} | {
    f"b/{name}.png": png(mask) for name, mask in zip("pqrs", LABELS, strict=True)
}
# What is changed in two good folders, and what the line names.
FOLDERS = [
    ({"b/s.png": None, "b/t.png": png(LABELS[0])}, [", s", ", t"]),
    ({"a/q.npy": npy(LOGITS[1])[:-40]}, ["q.npy", "file size"]),
    ({"a/q.npy": npy(LOGITS[1, :0]), "b/q.png": None, "b/q.npy": npy(LABELS[1, :0])}, ["(0, 7"]),
    ({"b/q.png": png(np.eye(3, dtype=np.uint8)[LABELS[1]])}, ["q.png", "RGB"]),
    ({"b/q.png": png(np.where(np.arange(7) < 1, np.uint16(300), LABELS[1]))}, ["q.png", "300", "--label_map"]),
    ({"b/q.png": png(LABELS[1], exif=TURNED)}, ["q.png", "EXIF"]),
    ({"b/q.png": png(LABELS[1], save_all=True, append_images=[Image.fromarray(LABELS[2])])}, ["q.png", "2 frames"]),
    ({"b/q.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 7 6\n"}, ["q.png"]),
    ({"b/q.jpg": b"", "b/q.png": None}, ["q.jpg"]),
    ({"a/p.npz": npz(x=LOGITS[0])}, ["p"]),
    ({"a/q.npy": npy(LOGITS[:2])}, ["q.npy", "(2, 6, 7, 3)"]),
    ({"a/q.npy": npy(LOGITS[1, :5])}, ["q (5, 7, 3)", "(6, 7)"]),
    ({name: None for name in GOOD if name[0] == "a"}, ["/a:"]),
    ({"g.csv": None}, ["g.csv"]),
    ({"g.csv": GROUPS[:19] + "t,1\n"}, ["found none for r, s", "of this audit: t"]),
    ({"g.csv": "name,site,patient\np,0,a\nq,1,b\nr,2,c\ns,0,d\n"}, ["site, patient", "--groups"]),
    ({"g.csv": GROUPS + "p,1\n"}, ["p"]),
    ({"g.csv": "name,group\np,a/b\nq,a_b\nr,c\ns,c d\n"}, ["'a/b', 'a_b'"]),
    ({"g.csv": "name,group,group\np,0,1\nq,1,0\nr,2,3\ns,0,1\n"}, ["'group'"]),
    ({"g.csv": GROUPS.replace("s,0", "s,0,3")}, ["line 5"]),
    ({"out/mine.txt": b"x"}, ["--out"]),
    ({"out/summary.json": b'{"program": "mine"}'}, ["--out"]),
]
MASKS = "--kind=masks"
BROKEN = LOGITS.copy()
BROKEN[2, 1, 3, 0] = np.nan
VALUES = [
    (BROKEN, LABELS, [], ["row 2", "row 1, column 3", "nan"]),
    (np.where(np.arange(3) < 3, -np.inf, LOGITS), LABELS, [], ["row 0", "42"]),
    (LOGITS.argmax(-1), LABELS, [], ["logits.npy", "--kind masks"]),
    (PROBABILITIES, LABELS, [], ["logits.npy", "--kind probabilities"]),
    (LOGITS, LABELS, ["--kind=probabilities"], ["logits.npy", "--kind logits"]),
    (LOGITS, 2 * np.eye(3, dtype=int)[LABELS], [], ["labels.npy"]),
    (LOGITS, np.where(LABELS == 1, 255, LABELS), [], ["labels.npy", "--ignore_index 255"]),
    (LOGITS, LABELS[:3], [], ["4 predictions", "3 labels"]),
    (LOGITS[..., :2], LABELS % 2, [], ["logits.npy", "2"]),
    (LOGITS, LABELS, ["--channels=first"], ["(C, H, W)"]),
    (LOGITS[:, :3, :3], LABELS[:, :3, :3], [], ["--channels first"]),
    (LOGITS, LABELS, ["--background=3"], ["--background", "3"]),
    (LOGITS, LABELS, ["--class_names=a,b,c,d"], ["--class_names"]),
    (LOGITS, LABELS + 9, ["--fail_below=fg_flip:middle=0.1"], ["--fail_below", "'fg_flip:middle'"]),
    (LABELS, LABELS, [MASKS, "--num_classes=99999"], ["99999 classes", "are these values classes"]),
    (LOGITS, LABELS, ["--clusters=[0-9"], ["--clusters", "'[0-9'"]),
    (LOGITS, LABELS, ["--clusters=$"], ["--clusters", "two"]),
    (LOGITS, LABELS, ["--groups=g.csv"], ["--table g.csv"]),
    (LOGITS, LABELS, ["--prediction_map=ade20k"], ["--prediction_map"]),
    (LOGITS, LABELS, ["--model=none.safetensors"], ["none.safetensors"]),
    (LOGITS, LABELS, ["--compare", "here", "there"], ["--compare"]),
    (np.array([{}, {}]), LABELS, [], ["logits.npy", "Python objects"]),
    (LOGITS[:0], LABELS[:0], [], ["labels.npy", "(0, 6, 7)"]),
    (LABELS, np.where(LABELS == 1, 255, LABELS), [MASKS], ["labels.npy", "--ignore_index 255"]),
    (LABELS, LABELS, [MASKS, "--label_map=ade"], ["--label_map", "'ade'"]),
    (LABELS, LABELS + 158, [MASKS, "--label_map=ade20k"], ["labels.npy", "ade20k", "160"]),
    (LABELS + 1, LABELS, [MASKS, "--num_classes=3"], ["logits.npy", "--prediction_map"]),
    (LABELS, LABELS, [MASKS, "--unit=instance"], ["--unit instance"]),
    (npz(logits=LOGITS, names=[*"pq"]), LABELS, [], ["logits.npz", "name"]),
    (npz(scores=LOGITS, others=LOGITS), LABELS, [], ["logits.npz", "scores, others"]),
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
    groups = [f"--table={root / 'g.csv'}", "--groups=group"] if "g.csv" in change else []
    return [f"--logits={root / 'a'}", f"--labels={root / 'b'}", f"--out={root / 'out'}", *groups]


def check_refused(capsys, root, options, named):
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    line = refused(capsys, *options)
    assert not [name for name in named if name not in line], line
    assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def images_of(path, kind):
    return [array.read() for array in open_source(path, kind=kind).images.values()]


FORMS = {
    "Fortran's order": {"a/q.npy": npy(np.asfortranarray(LOGITS[1]))},
    "other bytes": {"a/q.npy": npy(LOGITS[1].astype(">f4"))},
    "C's order": {"a/q.npy": npy(LOGITS[1] * 1.0)},
    "long floats": {"a/q.npy": npy(LOGITS[1].astype(np.longdouble))},
    "one image, stacked": {"a/q.npy": npy(LOGITS[1:2])},
    "npz": {"a/q.npy": None, "a/q.npz": npz(x=LOGITS[1], names=["q"])},
    "16 bits": {"b/q.png": png(LABELS[1].astype(np.uint16))},
    "a palette": {"b/q.png": png(LABELS[1], palette=True)},
    "a palette with transparency": {"b/q.png": png(LABELS[1], palette=True, transparency=1)},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_form_of_the_same_numbers(tmp_path, form):
    folders(tmp_path, form)
    np.testing.assert_array_equal(images_of(tmp_path / "a", "logits"), LOGITS)
    np.testing.assert_array_equal(images_of(tmp_path / "b", "labels"), LABELS)


@pytest.mark.parametrize(("change", "named"), FOLDERS)
def test_bad_folders(capsys, tmp_path, change, named):
    check_refused(capsys, tmp_path, folders(tmp_path, change), named)


@pytest.mark.parametrize(("logits", "labels", "options", "named"), VALUES)
def test_bad_values_and_options(capsys, tmp_path, logits, labels, options, named):
    check_refused(capsys, tmp_path, [*inputs(tmp_path, logits, labels), *options], named)


FILES = {"a.npy": npy(LABELS), "b.npz": written(np.savez_compressed, labels=LABELS), "d.png": png(LABELS[0])}


@given(st.sampled_from(sorted(FILES)), DAMAGES)
@settings(max_examples=FUZZ, deadline=None, derandomize=True, database=None)
def test_a_damaged_file_is_an_error_or_the_same_labels(tmp_path_factory, name, damage):
    """npy has no checksum: there another value may come out. All others give the same labels, or one line."""
    path = tmp_path_factory.mktemp("fuzz") / name
    path.write_bytes(damaged(FILES[name], *damage))
    try:
        labels = images_of(path, "labels")
    except AuditError as error:
        assert name in str(error)
        return
    wanted = LABELS[:1] if name == "d.png" else LABELS
    if name != "a.npy" and len(labels) == len(wanted):
        np.testing.assert_array_equal(labels, wanted)
