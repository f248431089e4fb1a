"""An audit of batches is that of the command, byte for byte in its tables."""

import gc
import re
from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np
import pytest
from audited import audit

from flipjax.audit import stream
from flipjax.audit.formats.problems import AuditError
from flipjax.config.groups import NamedGroups

pytestmark = pytest.mark.usefixtures("without_pictures")
NAMES = ["background", "cat", "dog", "cow"]
TABLES = ("images.csv", "flip_matrix.csv", "segments.parquet", "segments.csv", "decomposition.npz")


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
    audit(tmp_path / "command", *options, f"--table={tmp_path / 'groups.csv'}", "--groups=group")
    own = {"class_names": NAMES, "ignore_index": 255, "kind": kind}
    with stream(tmp_path / "stream", channels="first", **own) as batches:
        for at in (slice(0, 5), slice(5, 6), slice(6, 14)):
            part = np.moveaxis(logits[at], -1, 1) if kind == "logits" else jnp.asarray(predictions[at])
            batches.add(part, labels[at], names=[f"i{k}" for k in range(14)][at], groups=groups[at])
    found = tables(tmp_path / "stream")
    assert len(found) == 4 and found == tables(tmp_path / "command")
    pages = [(tmp_path / name / "index.html").read_text() for name in ("command", "stream")]
    pictures = [re.findall(r'src="(data:[^"]+)"', page) for page in pages]
    assert len(pictures[0]) > 9 and pictures[0] == pictures[1]
    assert batches.summary["n_images"] == 14


MISFITS = [
    ({"labels": np.zeros((2, 4, 5), int)}, "labels: expected"),
    ({"predictions": np.full((2, 4, 4, 4), 0.25)}, "expected logits, .* pass kind='probabilities'"),
    ({"predictions": np.full((2, 4, 4, 4), np.nan)}, "predictions: expected a finite largest score"),
    ({"predictions": np.ones((2, 4, 4, 6)) * 2}, "class_names: expected 6 different names"),
    ({"names": ["a", "a"]}, "names: expected a name an image, found some more than once, a"),
    ({"names": ["a"]}, "names: expected 2, one an image, found 1"),
    ({"groups": [0]}, r"groups: expected 2 integers"),
    ({"groups": ["a", " "]}, "groups: expected a name for each image"),
    ({"clusters": ["p"]}, "clusters: expected 2, one an image"),
    ({"clusters": [1.0, np.nan]}, "clusters: expected 2 integers, found float64"),
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


@pytest.mark.parametrize(("options", "named"), [({"kind": "masks"}, "num_classes"), ({"unit": "instance"}, "unit")])
def test_options_that_no_stream_can_have_are_refused_at_once(tmp_path, options, named):
    with pytest.raises(ValueError, match=f"{named}: expected"):
        stream(tmp_path / "out", **options)


LABELS = np.random.default_rng(1).integers(0, 4, (6, 4, 5))
MASKS = np.random.default_rng(2).integers(0, 4, (6, 4, 5))
OF_MASKS = {"class_names": NAMES, "kind": "masks"}


def test_threads_add_batches_whole(tmp_path):
    """Each batch holds one class, and its name says which: no image gets another one's name, group or cluster."""
    labels = np.stack([np.full((3, 3), 1 + i % 3) for i in range(60)])
    with stream(tmp_path / "out", **OF_MASKS, all_groups=NamedGroups(("a", "b", "c"))) as batches:

        def add(k):
            part = slice(3 * k, 3 * k + 3)
            own = labels[part]
            names = [f"{k}:{i}" for i in range(3)]
            batches.add(own, own, names=names, groups=[0, 1, 2], clusters=[k, k, k])

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(add, range(20)))
    with np.load(tmp_path / "out/decomposition.npz") as stored:
        shown = np.argmax(np.einsum("ncc->nc", stored["confusion"]), axis=1)
        assert stored["names"].tolist() == [f"{k}:{i}" for k in _order(stored["names"]) for i in range(3)]
        assert shown.tolist() == [1 + int(name.split(":")[1]) for name in stored["names"]]
        assert stored["groups"].tolist() == [0, 1, 2] * 20
        assert (
            len(set(zip([name.split(":")[0] for name in stored["names"]], stored["clusters"].tolist(), strict=True)))
            == 20
        )


def _order(names):
    """The batches in the order in which they were counted."""
    return dict.fromkeys(name.split(":")[0] for name in names)


def test_threads_number_images_without_names(tmp_path):
    with stream(tmp_path / "out", **OF_MASKS) as batches, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: batches.add(LABELS, LABELS), range(8)))
    with np.load(tmp_path / "out/decomposition.npz") as stored:
        assert stored["names"].tolist() == [str(i) for i in range(48)]


def test_a_closed_stream_takes_no_batch(tmp_path):
    with stream(tmp_path / "out", **OF_MASKS) as batches:
        batches.add(MASKS, LABELS)
    before = tables(tmp_path / "out")
    with pytest.raises(ValueError, match="expected batches before it is closed"):
        batches.add(MASKS, LABELS)
    assert batches.close() == batches.summary and tables(tmp_path / "out") == before


def test_a_stream_that_is_closed_without_a_block_keeps_its_summary(tmp_path):
    batches = stream(tmp_path / "out", **OF_MASKS)
    batches.add(MASKS, LABELS)
    batches.close()
    summary = (tmp_path / "out/summary.json").read_text()
    del batches
    gc.collect()
    assert '"mean_iou"' in summary and (tmp_path / "out/summary.json").read_text() == summary


def test_clusters_are_resampled_whole(tmp_path):
    labels = np.repeat(LABELS, 2, axis=0)
    masks = np.repeat(MASKS, 2, axis=0)
    clusters = np.repeat(np.arange(6), 2)
    with stream(tmp_path / "out", **OF_MASKS) as batches:
        batches.add(masks[:6], labels[:6], clusters=clusters[:6])
        batches.add(masks[6:], labels[6:], clusters=clusters[6:])
    with np.load(tmp_path / "out/decomposition.npz") as stored:
        assert stored["clusters"].tolist() == clusters.tolist()


ONE = np.zeros((1, 4, 5), int)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"clusters": [1]}, "clusters: expected with every batch", id="clusters-once"),
        pytest.param({"names": ["a\rb"]}, "names: expected texts of one line", id="carriage-return"),
        pytest.param({"names": ["a\nb"]}, "names: expected texts of one line", id="line-feed"),
        pytest.param({"names": ["a\udce9"]}, "names: expected texts of one line in UTF-8", id="latin-1"),
        pytest.param({"names": ["5"]}, "some more than once, 5", id="twice"),
        pytest.param({"spacing": (1, 0)}, "spacing: expected 2 distances above 0", id="spacing"),
    ],
)
def test_later_batches_that_do_not_fit(change, message, tmp_path):
    with stream(tmp_path / "out", **OF_MASKS) as batches:
        batches.add(MASKS, LABELS)
        with pytest.raises(ValueError, match=message):
            batches.add(ONE, ONE, **change)
    assert batches.summary["n_images"] == 6


@pytest.mark.parametrize(
    ("names", "error"),
    [
        pytest.param(["background", "a\r=1+1", "b"], ValueError, id="carriage-return"),
        pytest.param(["background", "", "b"], ValueError, id="blank"),
        pytest.param(["background", "a\udce9", "b"], ValueError, id="latin-1"),
        pytest.param(["background", 3, "b"], TypeError, id="number"),
    ],
)
def test_class_names_are_texts_of_one_line(names, error, tmp_path):
    with pytest.raises(error, match="class_names: expected texts"):
        stream(tmp_path / "out", class_names=names, kind="masks")
    assert not (tmp_path / "out").exists()


def test_clusters_of_one_patient_cannot_be_resampled(tmp_path):
    with (
        pytest.raises(ValueError, match="clusters: expected two or more"),
        stream(tmp_path / "o", **OF_MASKS) as batches,
    ):
        batches.add(MASKS, LABELS, clusters=["p"] * 6)
    assert not (tmp_path / "o").exists()


def test_classes_and_groups_without_images_are_said(tmp_path):
    labels = np.where(LABELS == 3, 1, LABELS)
    groups = NamedGroups(("north", "south", "west"))
    with stream(tmp_path / "out", **OF_MASKS, all_groups=groups) as batches:
        batches.add(MASKS, labels, groups=[0, 2, 0, 2, 0, 2])
    text = (tmp_path / "out/summary.md").read_text()
    assert "Classes without rates of their own, since the labels lack them: cow." in text
    assert "Groups without numbers, since they have no images: south." in text
    assert np.isnan(batches.summary["flip/cow"]) and "group/south/fg_flip" not in batches.summary


def test_groups_are_names_and_limits_are_tried(tmp_path):
    labels = np.where(LABELS == 3, 1, LABELS)
    limits = {"fail_above": {"fg_flip": 0.0, "group/rome/fg_flip:high": 1.0}, "junit": tmp_path / "gates.xml"}
    two_classes = {"class_names": NAMES[:3], "kind": "masks"}
    with stream(tmp_path / "out", **two_classes, **limits) as batches:
        batches.add(np.where(MASKS == 3, 2, MASKS), labels, groups=["rome", "oslo"] * 3, clusters=list("aabbcc"))
    assert {"group/rome/fg_flip", "group/oslo/fg_flip"} <= batches.summary.keys() and "gap/mean" not in batches.summary
    low, high = batches.intervals["group/rome/fg_flip"]
    assert low < batches.summary["group/rome/fg_flip"] < high
    assert len(batches.failed) == 1 and batches.failed[0].startswith("--fail_above fg_flip=0: found 0.")
    assert (tmp_path / "gates.xml").is_file()


def test_a_limit_on_an_unknown_key_is_refused(tmp_path):
    misspelt = {"fail_above": {"group/rom/fg_flip": 1}}
    with (
        pytest.raises(AuditError, match="found 'group/rom/fg_flip'"),
        stream(tmp_path / "out", **OF_MASKS, **misspelt) as batches,
    ):
        batches.add(MASKS, LABELS, groups=["rome", "oslo"] * 3)
