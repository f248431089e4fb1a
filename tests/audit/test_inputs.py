"""Formats and options of `flipjax audit` beyond plain files: COCO instances, clusters, limits, a model."""

import json
import types

import jax
import numpy as np
import pytest
from audited import audit, refused, save_masks, save_pictures
from run_folder import END, make_run

from flipjax import metrics
from flipjax.audit import audit_files
from flipjax.audit.__main__ import main
from flipjax.audit.formats.problems import AuditError
from flipjax.audit.inputs.predictions import stride_of
from flipjax.config import ModelSpec
from flipjax.evaluate.__main__ import main as evaluate
from flipjax.metrics.decomposition import Ratio
from flipjax.metrics.statistics.intervals import estimate_mean, estimate_rate
from flipjax.models.weights.initial import draw_weights
from flipjax.training.model import Model

pytestmark = pytest.mark.usefixtures("without_pictures")
GENERATOR = np.random.default_rng(0)
LABELS = np.kron(GENERATOR.integers(0, 4, (12, 2, 2)), np.ones((6, 8), int)).astype(np.uint8)
MASKS = np.where(GENERATOR.random(LABELS.shape) < 0.3, GENERATOR.integers(0, 4, LABELS.shape), LABELS).astype(np.uint8)
NAMES = [f"{film}_{frame}" for film in "abc" for frame in range(4)]
FILMS = np.repeat(np.arange(3), 4)


def save(folder, predictions=MASKS, labels=LABELS):
    return [*save_masks(folder, predictions, labels, NAMES), "--num_classes=4"]


def test_clusters_are_resampled_as_a_whole(tmp_path):
    options = [*save(tmp_path), "--groups=^[ab]|c"]
    found = audit(tmp_path / "out", *options, "--clusters=^[a-c]")
    decomposition = metrics.decompose(MASKS, LABELS, kind="masks", num_classes=4)
    confusion = decomposition.confusion[:, 1:]
    flipped = confusion[:, :, 1:].sum((1, 2)) - np.trace(confusion[:, :, 1:], axis1=1, axis2=2)
    _, low, high = estimate_rate(Ratio(flipped, confusion.sum((1, 2))), clusters=FILMS)
    assert found["intervals"]["fg_flip"] == pytest.approx([low, high], abs=1e-6)
    confusion = np.asarray(decomposition.confusion)
    same = confusion.diagonal(axis1=1, axis2=2)
    _, low, high = estimate_mean(Ratio(same, confusion.sum(1) + confusion.sum(2) - same), clusters=FILMS)
    assert found["intervals"]["mean_iou"] == pytest.approx([low, high], abs=1e-6)
    with np.load(tmp_path / "out/decomposition.npz") as stored:
        assert stored["clusters"].tolist() == FILMS.tolist()
        assert stored["group_names"].tolist() == [name[0] for name in NAMES]
    lines = "".join(f"{name},{name[0]},x{name[0]}\n" for name in NAMES)
    (tmp_path / "g.csv").write_text(f"name,group,film\n{lines}")
    by_column = audit(
        tmp_path / "out", *options[:-1], f"--table={tmp_path / 'g.csv'}", "--groups=group", "--clusters=film"
    )
    assert by_column["intervals"] == found["intervals"]


def test_audits_are_compared_image_by_image_and_gated(tmp_path, capsys):
    audit(tmp_path / "old", *save(tmp_path / "a"))
    audit(tmp_path / "new", *save(tmp_path / "b", LABELS))
    line = [f"--out={tmp_path / 'out'}", "--compare", tmp_path / "old", tmp_path / "new"]
    capsys.readouterr()
    assert main([*map(str, line), "--fail_above=fg_flip:high=0.2", "--fail_below=mean_iou=0"]) == 0
    found = json.loads((tmp_path / "out/compare.json").read_text())
    change = found["differences"]["fg_flip"]
    old = metrics.summarize(metrics.decompose(MASKS, LABELS, kind="masks", num_classes=4))
    assert change["difference"] == pytest.approx(-old["fg_flip"], abs=1e-6) and change["new"] == 0
    # Each image flips less.
    assert change["low"] < change["difference"] < change["high"] < 0
    assert [limit["passed"] for limit in found["gates"]] == [True, True]
    assert main([*map(str, line), "--fail_above=fg_flip:high=-0.1"]) == 1
    assert main([*map(str, line), "--fail_below=fg_flip=0"]) == 1
    assert "fg_flip" in capsys.readouterr().err


def test_audits_of_other_labels_are_not_compared(tmp_path, capsys):
    audit(tmp_path / "old", *save(tmp_path / "a"))
    audit(tmp_path / "other", *save(tmp_path / "b", LABELS, MASKS))
    pair = tmp_path / "old", tmp_path / "other"
    assert "a_0" in refused(capsys, "--compare", *pair, f"--out={tmp_path / 'none'}")
    assert not (tmp_path / "none").exists()


def test_a_folder_without_an_audit_is_not_compared(tmp_path, capsys):
    audit(tmp_path / "new", *save(tmp_path / "a"))
    pair = tmp_path, tmp_path / "new"
    assert str(tmp_path) in refused(capsys, "--compare", *pair, f"--out={tmp_path / 'none'}")
    assert not (tmp_path / "none").exists()


def test_instances_and_results_of_coco(tmp_path, capsys):
    coder = pytest.importorskip("pycocotools.mask", reason="pycocotools is no dependency")
    truth, found = np.zeros((2, 40, 60), int)
    truth[4:16, 4:20], truth[20:36, 8:24], truth[4:12, 40:56] = 1, 1, 2
    found[4:16, 4:20], found[20:36, 8:24], found[4:12, 40:56] = 2, 1, 2
    upper, box = (truth == 1) & (np.arange(40) < 18)[:, None], [[8, 20, 24, 20, 24, 36, 8, 36]]

    def entry(category, part, **more):
        if not isinstance(part, list):
            part = coder.encode(np.asfortranarray(part.astype(np.uint8)))
            part["counts"] = part["counts"].decode()
        return {"image_id": 5, "category_id": category, "segmentation": part, **more}

    stored = {"images": [{"id": 5, "file_name": "x.jpg", "height": 40, "width": 60}]}
    stored["categories"] = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]
    stored["annotations"] = [entry(7, upper), entry(7, box), entry(3, truth == 2)]
    results = [entry(3, upper, score=0.9), entry(7, upper, score=0.2), entry(7, box, score=0.8)]
    results += [entry(3, truth == 2, score=0.7)]
    for name, value in (("truth", stored), ("model", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    options = [f"--labels={tmp_path / 'truth.json'}", f"--predictions={tmp_path / 'model.json'}", "--kind=masks"]
    result = audit(tmp_path / "out", *options)
    expected = metrics.decompose(found[None], truth[None], kind="masks", num_classes=3)
    assert result["class_names"] == ["background", "cat", "dog"]
    assert result["flip_matrix"] == np.asarray(expected.confusion)[0].tolist()
    assert result["segments"]["cat"]["segments"] == 2 and result["segments"]["cat"]["seg_flip"] == 0.5
    (tmp_path / "model.json").write_text(json.dumps([results[0] | {"image_id": 6}]))
    assert "image_id 6" in refused(capsys, *options, f"--out={tmp_path / 'none'}")


class Painted:
    """Predicts the class that a photo's red value names."""

    stride, class_names = 5, ("background", "cat", "dog", "cow")

    def __call__(self, images):
        assert images.shape[1] % 5 == images.shape[2] % 5 == 0
        return 9 * np.eye(4, dtype=np.float32)[images[..., 0] // 60]


def test_a_model_is_audited_on_photos(tmp_path):
    stored = audit(tmp_path / "stored", *save(tmp_path))
    photos = save_pictures(tmp_path / "photos", np.repeat(60 * MASKS[..., None], 3, -1), NAMES)
    own = {"out": tmp_path / "model", "images": photos}
    found = audit_files(None, tmp_path / "labels", model=Painted(), **own)
    assert found.audit.pixel_confusion.tolist() == stored["flip_matrix"] and found.audit.has_scores
    assert found.audit.class_names == Painted.class_names


class PaintedBatches(Painted):
    """Predicts as `Painted` does, photos of one size at a time, and records the shapes that it was given."""

    def __init__(self):
        self.shapes = []

    def logits(self, images):
        self.shapes.append(images.shape[:3])
        return self(images)


class OneByOne:
    """A model that sees one photo at a time."""

    def __init__(self, model):
        self.model, self.stride, self.class_names = model, model.stride, model.class_names

    def __call__(self, images):
        assert len(images) == 1
        return self.model.logits(images)


def save_painted(folder, sizes):
    """Writes photos whose red value names a class, and labels; returns the options, and the counts of both."""
    predicted = [GENERATOR.integers(0, 4, size).astype(np.uint8) for size in sizes]
    labels = [GENERATOR.integers(0, 4, size).astype(np.uint8) for size in sizes]
    names = [f"i{number:02}" for number in range(len(sizes))]
    photos = save_pictures(folder / "photos", [np.repeat(60 * mask[..., None], 3, -1) for mask in predicted], names)
    counts = [np.zeros((4, 4), int) for _ in sizes]
    for count, truth, mask in zip(counts, labels, predicted, strict=True):
        np.add.at(count, (truth, mask), 1)
    return {"labels": save_pictures(folder / "labels", labels, names), "images": photos}, counts


BATCHES = {
    "of one size": ([(10, 10)] * 11, [(8, 10, 10), (3, 10, 10)]),
    "of mixed sizes": ([(10, 10)] * 2 + [(10, 7)] + [(10, 10)] * 3, [(2, 10, 10), (1, 10, 10), (3, 10, 10)]),
    "of many pixels": ([(420, 420)] * 3, [(2, 420, 420), (1, 420, 420)]),
    "too large for two": ([(600, 900)] * 2, [(1, 600, 900)] * 2),
}


@pytest.mark.parametrize(("sizes", "batches"), BATCHES.values(), ids=BATCHES)
def test_photos_of_one_size_go_through_a_model_in_batches(tmp_path, sizes, batches):
    folders, counts = save_painted(tmp_path, sizes)
    model = PaintedBatches()
    found = audit_files(None, **folders, model=model, out=tmp_path / "out").audit
    assert model.shapes == batches
    with np.load(tmp_path / "out/decomposition.npz") as stored:
        np.testing.assert_array_equal(stored["confusion"], counts)
    assert found.pixel_confusion.tolist() == sum(counts).tolist()


def test_logits_of_another_number_of_photos_are_refused(tmp_path):
    class FirstOnly(PaintedBatches):
        """Takes a batch, and predicts its first photo alone."""

        def logits(self, images):
            return super().logits(images)[:1]

    folders, _ = save_painted(tmp_path, [(10, 10)] * 3)
    with pytest.raises(AuditError, match=r"logits of a batch of 3 images, found an array \(1, 10, 10, 4\)"):
        audit_files(None, **folders, model=FirstOnly(), out=tmp_path / "out")


def test_an_error_of_a_model_on_a_batch_is_its_own(tmp_path):
    class TooLarge(PaintedBatches):
        """Has memory for one photo."""

        def logits(self, images):
            if len(images) > 1:
                raise MemoryError("two photos")
            return super().logits(images)

    folders, _ = save_painted(tmp_path, [(10, 10)] * 3)
    with pytest.raises(MemoryError, match="two photos"):
        audit_files(None, **folders, model=TooLarge(), out=tmp_path / "out")
    assert not (tmp_path / "out/summary.json").exists()


def test_a_broken_photo_in_a_batch_is_named(tmp_path):
    folders, _ = save_painted(tmp_path, [(40, 40)] * 4)
    broken = folders["images"] / "i02.png"
    broken.write_bytes(broken.read_bytes()[:-600])
    with pytest.raises(AuditError, match=r"i02\.png") as refusal:
        audit_files(None, **folders, model=PaintedBatches(), out=tmp_path / "out")
    assert "i01" not in str(refusal.value)


def test_a_network_counts_in_batches_what_it_counts_image_by_image(tmp_path):
    spec = ModelSpec(width=4, depth=3)
    names = ("background", "cat", "dog", "cow")
    model = Model(draw_weights(jax.random.key(2), spec, 4), spec, names, 16)
    folders, _ = save_painted(tmp_path, [(18, 22)] * 5)
    decompositions = {}
    for form, network in {"batches": model, "one by one": OneByOne(model)}.items():
        audit_files(None, **folders, model=network, out=tmp_path / form)
        with np.load(tmp_path / form / "decomposition.npz") as stored:
            decompositions[form] = dict(stored)
    batches = decompositions["batches"]
    np.testing.assert_array_equal(batches["confusion"], decompositions["one by one"]["confusion"])
    np.testing.assert_allclose(batches["risk_sum"], decompositions["one by one"]["risk_sum"], rtol=1e-5)


SIZES = [(19, 21), (24, 16), (7, 33)]
"""Sides of photos; most are no multiple of 4, the stride of a network of depth 3."""


def save_odd_photos(folder):
    """Writes photos of odd sizes with labels; returns both and the options that name them."""
    photos = [GENERATOR.integers(0, 256, (*size, 3)).astype(np.uint8) for size in SIZES]
    labels = [GENERATOR.integers(0, 3, size).astype(np.uint8) for size in SIZES]
    names = [f"{height}x{width}" for height, width in SIZES]
    found = save_pictures(folder / "photos", photos, names), save_pictures(folder / "labels", labels, names)
    return photos, labels, [f"--images={found[0]}", f"--labels={found[1]}"]


def test_photos_of_any_size_are_padded_for_a_saved_model_and_a_member(tmp_path):
    spec = ModelSpec(width=4, depth=3)
    model = Model(draw_weights(jax.random.key(1), spec, 3), spec, ("background", "cat", "dog"), 16)
    photos, labels, options = save_odd_photos(tmp_path)
    stored = store_member(tmp_path / "run", model)
    expected = np.zeros((3, 3), np.int64)
    for photo, truth in zip(photos, labels, strict=True):
        height, width = truth.shape
        padded = np.pad(photo, ((0, -height % 4), (0, -width % 4), (0, 0)), mode="edge")
        logits = model.logits(padded[None])[0, :height, :width]
        expected += np.asarray(metrics.decompose(logits, truth).confusion)
    found = audit(tmp_path / "model", f"--model={stored}", *options)
    assert found["flip_matrix"] == expected.tolist()
    line = [f"--run={tmp_path / 'run'}", *options, f"--out={tmp_path / 'member'}", "--member=rho=1_seed=0"]
    assert evaluate([*line, "--rule=val_loss"]) == 0
    assert (tmp_path / "model/images.csv").read_bytes() == (tmp_path / "member/images.csv").read_bytes()


def store_member(folder, model):
    """Makes a run of one member with a model's weights, and returns their file."""
    make_run(folder, [{"rho": 1, "seed": 0}], config={"config": {}})
    cell = (folder / "cells/only").rename(folder / "cells/0")
    (cell / "weights").mkdir()
    return model.save(cell / "weights" / f"rho=1_seed=0.{END['selection']}.safetensors")


@pytest.mark.parametrize(
    ("model", "stride"),
    [
        pytest.param(Painted(), 5, id="stride"),
        pytest.param(types.SimpleNamespace(spec=ModelSpec(depth=3)), 4, id="spec"),
        pytest.param(np.asarray, 1, id="function"),
    ],
)
def test_the_stride_of_a_model(model, stride):
    assert stride_of(model) == stride


def test_a_saved_model_and_a_member_of_a_run_are_audited_alike(tmp_path, capsys):
    spec = ModelSpec(width=4, depth=1)
    model = Model(draw_weights(jax.random.key(0), spec, 3), spec, ("background", "cat", "dog"), 16)
    photos = GENERATOR.integers(0, 256, (12, 12, 16, 3)).astype(np.uint8)
    labels = LABELS % 3
    options = [save(tmp_path, MASKS, labels)[1], f"--images={save_pictures(tmp_path / 'photos', photos, NAMES)}"]
    stored = store_member(tmp_path / "run", model)
    found = audit(tmp_path / "model", f"--model={stored}", *options)
    assert found["flip_matrix"] == model.decompose(photos, labels).confusion.sum(0).tolist()
    line = [f"--run={tmp_path / 'run'}", *options, f"--out={tmp_path / 'member'}"]
    assert evaluate([*line, "--member=rho=1_seed=0", "--rule=val_loss"]) == 0
    assert (tmp_path / "model/images.csv").read_bytes() == (tmp_path / "member/images.csv").read_bytes()
    for member, named in (("--member=m9", "m9"), ("--rule=last", "--member")):
        capsys.readouterr()
        assert evaluate([*line[:-1], f"--out={tmp_path / 'none'}", member]) == 2
        assert named in capsys.readouterr().err and not (tmp_path / "none").exists()
