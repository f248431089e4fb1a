"""Volumes: scores and masks in every format, through files, batches and models; spacing, sizes and slices."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from audited import audit, refused, rows_of, segments_of

from flipjax import metrics
from flipjax.audit import audit_files, stream
from flipjax.audit.counting.measurements import MinSize

pytestmark = pytest.mark.usefixtures("without_pictures")
CLASSES = ["background", "liver", "spleen", "lesion"]
GENERATOR = np.random.default_rng(0)
LABELS = np.kron(GENERATOR.integers(0, 4, (3, 2, 3, 2)), np.ones((1, 4, 3, 5), int)).astype(np.uint8)
LOGITS = (GENERATOR.normal(0, 1.2, (*LABELS.shape, 4)) + 2 * np.eye(4)[LABELS]).astype(np.float32)
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
MASKS = LOGITS.argmax(-1).astype(np.uint8)
VALUES = {"logits": LOGITS, "probabilities": PROBABILITIES, "masks": MASKS}
TABLES = ("images.csv", "flip_matrix.csv", "decomposition.npz")


def write(folder, values, suffix, spacing=(1.0, 1.0, 1.0)):
    """Writes a file a volume, and returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, volume in enumerate(values):
        path = folder / f"v{i}{suffix}"
        if suffix == ".npy":
            np.save(path, volume)
        elif suffix == ".npz":
            np.savez(path, volume=volume)
        else:
            nibabel = pytest.importorskip("nibabel", reason="nibabel is no dependency")
            nibabel.save(nibabel.Nifti1Image(volume, np.diag([*spacing, 1.0])), path)
    return folder


def options(tmp_path, kind="masks", **spacing):
    predictions = write(tmp_path / "predictions", VALUES[kind], ".npy", **spacing)
    labels = write(tmp_path / "labels", LABELS, ".npy", **spacing)
    names = ",".join(CLASSES)
    return [f"--predictions={predictions}", f"--labels={labels}", f"--kind={kind}", f"--class_names={names}"]


def tables(folder):
    return {name: (folder / name).read_bytes() for name in TABLES}


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    """What a stream of volumes writes, by kind."""
    written = {}
    for kind, values in VALUES.items():
        folder = tmp_path_factory.mktemp(kind) / "out"
        with stream(folder, class_names=CLASSES, kind=kind, spatial_ndim=3) as batches:
            batches.add(values, LABELS, names=["v0", "v1", "v2"])
        written[kind] = folder
    return written


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".nii.gz"])
@pytest.mark.parametrize("kind", VALUES)
def test_files_of_volumes_are_a_stream_of_volumes(kind, suffix, tmp_path, streamed):
    predictions = write(tmp_path / "predictions", VALUES[kind], suffix)
    labels = write(tmp_path / "labels", LABELS, suffix)
    found = audit(
        tmp_path / "out",
        f"--predictions={predictions}",
        f"--labels={labels}",
        f"--kind={kind}",
        f"--class_names={','.join(CLASSES)}",
    )
    expected = metrics.decompose(VALUES[kind], LABELS, kind=kind, spatial_ndim=3, num_classes=4)
    assert found["flip_matrix"] == np.asarray(expected.confusion).sum(0).tolist()
    # The headers of NIfTI files say the spacing, which the stream was not given.
    same = TABLES if suffix != ".nii.gz" else ("flip_matrix.csv",)
    names = [name for name in same if tables(tmp_path / "out")[name] != tables(streamed[kind])[name]]
    assert names == []
    if suffix == ".nii.gz":
        of_files = dict(np.load(tmp_path / "out/decomposition.npz"))
        assert of_files.pop("pixel_size").tolist() == [1, 1, 1]
        of_stream = dict(np.load(streamed[kind] / "decomposition.npz"))
        # They list the arrays, of which one has the sizes of pixels as well.
        del of_files["schema"], of_stream["schema"]
        assert of_files.keys() == of_stream.keys()
        assert [key for key in of_files if of_files[key].tobytes() != of_stream[key].tobytes()] == []
    if kind != "masks":
        stored = np.load(tmp_path / "out/decomposition.npz")["risk_sum"]
        np.testing.assert_allclose(stored, expected.risk_sum, rtol=1e-5)


def test_classes_may_come_first(tmp_path, streamed):
    predictions = write(tmp_path / "first", np.moveaxis(PROBABILITIES, -1, 1), ".npy")
    line = options(tmp_path, "probabilities")
    audit(tmp_path / "out", f"--predictions={predictions}", *line[1:])
    assert tables(tmp_path / "out") == tables(streamed["probabilities"])


def test_one_file_may_hold_a_stack_of_volumes_or_one_volume(tmp_path, streamed):
    np.savez(tmp_path / "in.npz", masks=MASKS, labels=LABELS, names=["v0", "v1", "v2"])
    line = [f"--predictions={tmp_path / 'in.npz'}", f"--labels={tmp_path / 'in.npz'}", "--kind=masks"]
    line.append(f"--class_names={','.join(CLASSES)}")
    audit(tmp_path / "out", *line)
    assert tables(tmp_path / "out") == tables(streamed["masks"])
    for name, values in (("p", MASKS[0]), ("l", LABELS[0])):
        np.save(tmp_path / f"{name}.npy", values)
    line = [f"--predictions={tmp_path / 'p.npy'}", f"--labels={tmp_path / 'l.npy'}", "--kind=masks", line[-1]]
    assert audit(tmp_path / "slices", *line)["summary"]["n_images"] == len(LABELS[0])
    assert audit(tmp_path / "volume", *line, "--spatial_ndim=3")["summary"]["n_images"] == 1


class Volumes:
    """A model of volumes: each voxel's intensity names its class."""

    class_names = tuple(CLASSES)

    def __call__(self, volumes):
        assert volumes.dtype == np.float32 and volumes.shape[0] == 1
        return 9 * np.eye(4, dtype=np.float32)[volumes.astype(int) // 60]


def test_a_model_predicts_volumes(tmp_path):
    images = write(tmp_path / "images", (60 * MASKS).astype(np.int16), ".npy")
    labels = write(tmp_path / "labels", LABELS, ".npy")
    found = audit_files(None, labels, model=Volumes(), images=images, out=tmp_path / "out").audit
    expected = metrics.decompose(MASKS, LABELS, kind="masks", spatial_ndim=3, num_classes=4)
    assert found.pixel_confusion.tolist() == np.asarray(expected.confusion).sum(0).tolist()


def test_pages_name_the_slice(tmp_path, monkeypatch):
    monkeypatch.undo()
    audit(tmp_path / "out", *options(tmp_path))
    page = (tmp_path / "out/index.html").read_text()
    assert "v0, slice " in page


def test_pages_cut_out_flipped_segments_of_volumes(tmp_path, monkeypatch):
    monkeypatch.undo()
    labels = np.zeros((2, 40, 40, 6), np.uint8)
    labels[:, 2:12, 2:12] = 1
    labels[:, 20:36, 20:36] = 2
    prediction = labels.copy()
    prediction[1, 2:12, 2:12, 1:] = 2
    prediction[1, 2:5, 2:12, :4] = 1
    with stream(tmp_path / "out", class_names=CLASSES[:3], kind="masks", spatial_ndim=3) as audited:
        audited.add(prediction, labels, names=["a", "b"])
    page = (tmp_path / "out/index.html").read_text()
    # Slice 4 is the first that flips whole; the cut-out has a margin of 8 around 10 rows and columns.
    item = page[page.index('id="flip-1-2"') :]
    assert "<bdi>b, slice 4</bdi>" in item[:600] and "liver as spleen" in item[:600]
    assert 'width="20" height="20"' in item[: item.index("</li>")]


@pytest.mark.parametrize(("least", "kept"), [("1", 4), ("8", 3), ("0.04mL", 3), ("0.2mL", 2), ("0.4 mL", 1)])
def test_small_segments_are_left_out_by_voxels_or_millilitres(least, kept, tmp_path):
    labels = np.zeros((1, 10, 10, 8), np.uint8)
    labels[0, :, :, :4], labels[0, :5, :5, 5:7], labels[0, 6:8, 6:8, 5:7] = 1, 2, 3
    labels[0, 9, 9, 7] = 4
    names = ["background", "a", "b", "c", "d"]
    with stream(
        tmp_path / "out", class_names=names, kind="masks", spatial_ndim=3, min_size=least, spacing=(2, 2, 1.5)
    ) as batches:
        batches.add(labels, labels)
    # 400, 50, 8 and 1 voxels of 0.006 mL.
    assert len(segments_of(tmp_path / "out")) == kept
    assert json.loads((tmp_path / "out/summary.json").read_text())["segments"]["all"]["segments"] == kept


@pytest.mark.parametrize(
    ("text", "spacing", "pixels"),
    [
        ("64", None, 64),
        ("1.5", None, 2),
        ("3mm2", (0.5, 0.5), 12),
        ("0.5mL", (0.1, 0.1, 0.1), 500_000),
        ("0.7mL", (1.0, 1.0, 0.7), 1_000),
        (2, (0.7, 0.7, 5.0), 2),
    ],
)
def test_a_smallest_size_is_a_number_of_pixels(text, spacing, pixels):
    assert MinSize.parse(text).pixels(spacing) == pixels


@pytest.mark.parametrize("text", ["", "mL", "-1", "0", "3 cm", "nan", "inf"])
def test_other_smallest_sizes_are_refused(text):
    with pytest.raises(ValueError, match="min_size: expected a number of pixels"):
        MinSize.parse(text)


def test_sizes_are_in_millilitres_where_headers_say_the_spacing(tmp_path):
    spacing = (2.0, 2.0, 5.0)
    predictions = write(tmp_path / "p", MASKS, ".nii.gz", spacing)
    labels = write(tmp_path / "l", LABELS, ".nii.gz", spacing)
    line = [f"--predictions={predictions}", f"--labels={labels}", "--kind=masks", f"--class_names={','.join(CLASSES)}"]
    audit(tmp_path / "out", *line)
    by_option = audit(tmp_path / "given", *options(tmp_path), "--spacing=2,2,5")
    assert by_option["options"]["spacing"] == [2.0, 2.0, 5.0]
    for folder in ("out", "given"):
        for row in rows_of(tmp_path / folder / "images.csv"):
            expected = int(row["foreground_pixels"]) * 0.02
            assert float(row["foreground_ml"]) == pytest.approx(expected, abs=1e-6)


def test_rates_weigh_voxels_where_spacings_differ(tmp_path):
    with stream(tmp_path / "out", class_names=CLASSES, kind="masks", spatial_ndim=3) as batches:
        batches.add(MASKS, LABELS, spacing=[(1, 1, 1), (1, 1, 2), (0.5, 0.5, 1)])
    flips = np.asarray(metrics.decompose(MASKS, LABELS, kind="masks", spatial_ndim=3, num_classes=4).flip)
    volume = np.array([1, 2, 0.25]) * (LABELS > 0).sum((1, 2, 3))
    expected = (volume * flips).sum() / volume.sum()
    assert batches.summary["fg_flip"] == pytest.approx(expected)


def test_one_weight_in_all_shares_of_volumes_of_different_spacing(tmp_path):
    """Two volumes of a class: 6 of 8 voxels of 1 mm3 are right, one flips, one is missed; of 4 of 10 mm3 one flips."""
    labels = np.zeros((2, 2, 2, 4), int)
    labels[0, 0] = 1
    labels[1, 0, 0] = 1
    predictions = labels.copy()
    predictions[0, 0, 0, 0] = 2
    predictions[0, 0, 0, 1] = 0
    predictions[1, 0, 0, 0] = 2
    with stream(tmp_path / "out", class_names=["background", "cat", "dog"], kind="masks", spatial_ndim=3) as batches:
        batches.add(predictions, labels, spacing=[(1, 1, 1), (1, 2, 5)])
    # 8 + 40 mm3 of the class.
    shares = {"correct": 36 / 48, "flip": 11 / 48, "miss": 1 / 48}
    for outcome, share in shares.items():
        assert batches.summary[f"fg_{outcome}"] == pytest.approx(share)
    matrix = pd.read_csv(tmp_path / "out" / "flip_matrix.csv").set_index(["truth", "outcome"]).loc["cat"]
    assert matrix["pixels"].to_dict() == {"correct": 9, "flip": 2, "miss": 1}
    assert matrix["share"].to_dict() == pytest.approx(shares, abs=1e-6)
    stored = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert stored["weight"] == "volume"
    assert stored["summary"]["flip/cat"] == pytest.approx(11 / 48)
    # Of 12 mm3 wrong, one of 8 voxels is missed.
    assert stored["budget"]["miss"]["pixels"] == 1
    assert stored["budget"]["miss"]["share"] == pytest.approx(1 / 12, abs=1e-6)
    page = (tmp_path / "out" / "summary.md").read_text()
    assert "| cat | 2 | 0.0 | 0.750 |" in page and "| 0.021 [" in page
    assert page.count("by volume") == 1


def test_volumes_of_one_spacing_have_no_weights(tmp_path):
    with stream(tmp_path / "out", class_names=CLASSES, kind="masks", spatial_ndim=3) as batches:
        batches.add(MASKS, LABELS, spacing=(1, 1, 2))
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["weight"] == "voxels"


def save_pair(tmp_path, prediction, labels):
    """Writes one pair of NIfTI volumes with these voxel sizes, and returns the options that name them."""
    nibabel = pytest.importorskip("nibabel", reason="nibabel is no dependency")
    for name, sizes in (("p", prediction), ("l", labels)):
        (tmp_path / name).mkdir()
        image = nibabel.Nifti1Image(LABELS[0], np.diag([*np.where(np.array(sizes) > 0, sizes, 1), 1.0]))
        image.header["pixdim"][1:4] = sizes
        nibabel.save(image, tmp_path / name / "v0.nii")
    return [f"--predictions={tmp_path / 'p'}", f"--labels={tmp_path / 'l'}", "--kind=masks", "--num_classes=4"]


@pytest.mark.parametrize(
    ("prediction", "labels", "more", "message"),
    [
        pytest.param((1, 1, 1), (1, 1, 2), [], "v0.nii: expected the affine of its labels", id="differs"),
        pytest.param((1, 1, 1), (1, 1, 0), [], "v0.nii: expected voxel sizes above 0 mm", id="zero"),
        pytest.param((1, 1, 1), (1, 1, 1), ["--spacing=1,1,3"], "expected what the header of", id="option-differs"),
        pytest.param((1, 1, 1), (1, 1, 1), ["--spacing=1,1"], "--spacing: expected 3 distances above 0", id="axes"),
        pytest.param((1, 1, 1), (1, 1, 1), ["--spacing=1,0,1"], "--spacing: expected 3 distances above 0", id="none"),
        pytest.param((1, 1, 1), (1, 1, 1), ["--min_size=2mm2"], "--min_size: expected a spacing", id="area"),
        pytest.param((1, 1, 1), (1, 1, 1), ["--min_size=2 cc"], "--min_size: expected a number of pixels", id="unit"),
    ],
)
def test_spacings_that_do_not_fit_are_one_line(prediction, labels, more, message, tmp_path, capsys):
    line = save_pair(tmp_path, prediction, labels)
    assert message in refused(capsys, *line, *more, f"--out={tmp_path / 'out'}")


def test_a_size_in_millilitres_needs_a_spacing(tmp_path, capsys):
    line = refused(capsys, *options(tmp_path), "--min_size=1mL", f"--out={tmp_path / 'out'}")
    assert "--min_size: expected a spacing in mm along 3 axes" in line


def test_errors_of_volumes_speak_of_volumes(tmp_path, capsys):
    predictions = write(tmp_path / "cut", MASKS[:, :-1], ".npy")
    line = options(tmp_path)
    assert "(D, H, W)" in refused(capsys, f"--predictions={predictions}", *line[1:], f"--out={tmp_path / 'out'}")
    holes = LOGITS.copy()
    holes[1, 2, 3, 4] = np.nan
    predictions = write(tmp_path / "holes", holes, ".npy")
    line = options(tmp_path, "logits")
    found = refused(capsys, f"--predictions={predictions}", *line[1:], f"--out={tmp_path / 'out'}")
    assert "v1.npy" in found and "voxel (2, 3, 4)" in found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spacing": [1, 1]}, "spacing: expected 3 distances above 0"),
        ({"spacing": [0, 1, 1]}, "spacing: expected 3 distances above 0"),
        ({"labels": LABELS[0]}, r"labels: expected \(N, D, H, W\)"),
        ({"images": np.zeros((*LABELS.shape, 3), np.uint8)}, "images: expected"),
    ],
)
def test_batches_of_volumes_that_do_not_fit(changes, message, tmp_path):
    batch = {"predictions": MASKS, "labels": LABELS} | changes
    with stream(tmp_path / "out", class_names=CLASSES, kind="masks", spatial_ndim=3) as batches:
        with pytest.raises(ValueError, match=message):
            batches.add(**batch)
        batches.add(MASKS, LABELS)


def test_measurements_without_every_spacing_say_so(tmp_path):
    with stream(tmp_path / "out", class_names=CLASSES, kind="masks", spatial_ndim=3) as batches:
        batches.add(MASKS[:1], LABELS[:1], spacing=(1, 1, 1))
        batches.add(MASKS[1:], LABELS[1:])
    assert (
        "Every rate is by voxels: no spacing is known of 1, 2 (--spacing" in (tmp_path / "out/summary.md").read_text()
    )
    assert "foreground_ml" not in rows_of(tmp_path / "out/images.csv")[0]


def test_counts_of_equal_voxels_are_not_weighted(tmp_path):
    with stream(tmp_path / "out", class_names=CLASSES, kind="masks", spatial_ndim=3, spacing=(1, 2, 3)) as batches:
        batches.add(MASKS, LABELS)
        measured = batches._tally.measurements(CLASSES)
    assert measured.weighted_decomposition is measured.decomposition
    assert measured.millilitres(np.array([1000, 0, 500])).tolist() == [6.0, 0.0, 3.0]
    assert dataclasses.replace(measured, spacing=None).millilitres(np.ones(3)) is None


@pytest.mark.parametrize(
    ("values", "kind", "advice"),
    [("masks", "logits", "pass --kind masks"), ("logits", "masks", "pass --kind logits or --kind probabilities")],
    ids=["masks as logits", "logits as masks"],
)
def test_a_kind_that_volumes_do_not_have_names_the_other(values, kind, advice, tmp_path, capsys):
    predictions = write(tmp_path / "predictions", VALUES[values], ".nii")
    labels = write(tmp_path / "labels", LABELS, ".nii")
    found = refused(
        capsys, f"--predictions={predictions}", f"--labels={labels}", f"--kind={kind}", f"--out={tmp_path / 'o'}"
    )
    assert f"{predictions / 'v0.nii'}: expected {kind} of one volume" in found and advice in found


def test_an_error_of_a_model_is_its_own_and_no_damaged_file(tmp_path):
    labels = write(tmp_path / "labels", LABELS, ".npy")
    images = write(tmp_path / "images", LABELS.astype(np.float32), ".npy")
    calls = []

    def model(volume):
        calls.append(volume)
        if len(calls) > 1:
            raise ValueError("a mistake of mine")
        return LOGITS[:1]

    with pytest.raises(ValueError, match="a mistake of mine"):
        audit_files(None, labels, model=model, images=images, out=tmp_path / "out")
