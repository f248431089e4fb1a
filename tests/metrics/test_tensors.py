"""Tensors of PyTorch: reduced on their device as `decompose` reduces arrays, and refused as arrays are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flipjax import metrics
from flipjax.audit import stream
from flipjax.metrics import FlipMetric, LabelSpec
from metrics.logits import EXAMPLES

torch = pytest.importorskip("torch", reason="PyTorch is no dependency")

from flipjax.metrics.pixels import tensors  # noqa: E402 - imports PyTorch.

# Few, so that few programs of JAX compile.
SPECS = [
    {"classes": 2, "background": None, "ignore_index": None},
    {"classes": 3, "background": 0, "ignore_index": 255},
    {"classes": 5, "background": (1, 3), "ignore_index": 0},
    {"classes": 21, "background": 20, "ignore_index": -1},
    {"classes": 1000, "background": (0, 5), "ignore_index": None},
]
SPATIAL = {2: (3, 7), 3: (2, 3, 4)}
# 1e-40 is subnormal in float32, and counts as 0.
SPECIAL = [np.nan, np.inf, -np.inf, 1e-40, -1e-40, 0.0, 88.0]


@st.composite
def cases(draw):
    """Predictions and labels as tensors, with classes last, and their options; ties abound."""
    spec = dict(draw(st.sampled_from(SPECS)))
    classes = spec.pop("classes")
    spec |= {"kind": draw(st.sampled_from(["logits", "probabilities", "masks"]))}
    spec |= {"spatial_ndim": draw(st.sampled_from([2, 3])), "num_classes": classes}
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    shape = (draw(st.sampled_from([1, 3])), *SPATIAL[spec["spatial_ndim"]])
    labels = generator.integers(0, classes, shape)
    if spec["ignore_index"] not in (None, 0):
        labels[generator.random(shape) < 0.3] = spec["ignore_index"]
    labels = torch.tensor(labels).to(draw(st.sampled_from([torch.int64, torch.int16])))
    if spec["kind"] == "masks":
        return torch.tensor(generator.integers(0, classes, shape)), labels, spec
    scores = torch.tensor(generator.integers(-4, 5, (*shape, classes)) / 2, dtype=torch.float32)
    if draw(st.booleans()):
        scores *= 40
    if spec["kind"] == "probabilities":
        scores = scores.softmax(-1)
    elif draw(st.booleans()):
        special = torch.tensor(generator.choice(SPECIAL, scores.shape), dtype=torch.float32)
        scores = torch.where(torch.tensor(generator.random(scores.shape) < 0.1), special, scores)
    return scores.to(draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))), labels, spec


def first(scores, spec):
    """Moves classes before the axes of space."""
    if spec["kind"] == "masks":
        return scores
    return scores.movedim(-1, -1 - spec["spatial_ndim"]).contiguous()


@settings(EXAMPLES, max_examples=40)
@given(cases(), st.sampled_from(["first", "last"]), st.sampled_from([40, 1 << 24]))
def test_tensors_are_reduced_as_decompose_reduces_arrays(case, channels, most_elements):
    scores, labels, spec = case
    array = scores.numpy() if spec["kind"] == "masks" else scores.float().numpy()
    expected = metrics.decompose(array, labels.numpy(), **spec)
    outputs = first(scores, spec) if channels == "first" else scores
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensors, "MOST_ELEMENTS_OF_CPU", most_elements)
        found = tensors.decompose_tensors(outputs, labels, LabelSpec(channels=channels, **spec))
    assert found.background == expected.background and found.confusion.dtype == np.int32
    np.testing.assert_array_equal(found.confusion, expected.confusion)
    np.testing.assert_allclose(found.risk_sum, expected.risk_sum, rtol=1e-5, atol=1e-5)


PIXELS = {
    "NaN of background": [np.nan, 1, 2],
    "NaN of foreground": [1, np.nan, 2],
    "NaN twice": [5, np.nan, np.nan],
    "subnormal": [0, 1e-40, 2e-40],
    "subnormal below 0": [-1e-40, 0, -1],
    "largest subnormal": [0, np.nextafter(np.finfo(np.float32).tiny, 0), 0],
    "smallest normal": [0, np.finfo(np.float32).tiny, 0],
    "infinite": [0, np.inf, np.inf],
    "minus infinite": [-np.inf, -np.inf, -np.inf],
    "tie": [1, 2, 2],
    "wide": [0, 300, -300],
}


@pytest.mark.parametrize("logits", PIXELS.values(), ids=PIXELS)
def test_a_pixel_at_the_edge_counts_as_in_decompose(logits):
    scores = np.array(logits, np.float32)[None, None]
    labels = np.ones((1, 1), np.uint8)
    found = tensors.decompose_tensors(torch.tensor(scores), torch.tensor(labels), LabelSpec())
    expected = metrics.decompose(scores, labels)
    np.testing.assert_array_equal(found.confusion[0], expected.confusion)
    np.testing.assert_allclose(found.risk_sum[0], expected.risk_sum, rtol=1e-5)


def test_entropies_of_sure_pixels_are_precise():
    logits = torch.tensor([[[[-30.0], [9.0], [-9.0]]]]).movedim(2, 1)
    found = tensors.decompose_tensors(logits, torch.ones(1, 1, 1, dtype=torch.uint8), LabelSpec(channels="first"))
    rest = np.exp(-18.0)
    np.testing.assert_allclose(found.risk_sum, np.log1p(rest) + 18 * rest / (1 + rest), rtol=1e-5)


def test_leading_axes_become_images():
    logits = torch.randn(2, 3, 4, 5, 3)
    labels = torch.randint(0, 3, (2, 3, 4, 5))
    found = tensors.decompose_tensors(logits, labels, LabelSpec())
    expected = metrics.decompose(logits.numpy(), labels.numpy())
    np.testing.assert_array_equal(found.confusion, np.reshape(expected.confusion, (6, 3, 3)))


def test_a_batch_may_be_empty():
    found = tensors.decompose_tensors(torch.zeros(0, 3, 4, 5), torch.zeros(0, 4, 5).int(), LabelSpec(channels="first"))
    assert found.confusion.shape == (0, 3, 3) and found.risk_sum.shape == (0,)


def test_masks_have_as_many_classes_as_they_need():
    masks = torch.tensor([[[0, 1], [4, 255]]])
    found = tensors.decompose_tensors(masks.clamp(max=4), masks, LabelSpec(kind="masks", ignore_index=255))
    assert found.confusion.shape == (1, 5, 5) and found.confusion.sum() == 3


@pytest.fixture
def kept_on_device(monkeypatch):
    """Lets tensors of many elements fail to reach the host; returns the function that says how many are too many."""

    def forbid(elements):
        for name in ("cpu", "numpy", "tolist", "__array__"):
            original = getattr(torch.Tensor, name)

            def guarded(tensor, *args, original=original, name=name, **options):
                assert tensor.numel() < elements, f"{name} of {tuple(tensor.shape)}"
                return original(tensor, *args, **options)

            monkeypatch.setattr(torch.Tensor, name, guarded)

    return forbid


@pytest.mark.parametrize("kind", ["logits", "probabilities", "masks"])
def test_no_pixel_of_a_metric_reaches_the_host(kept_on_device, kind):
    scores = torch.randn(2, 3, 32, 32)
    predictions = {"logits": scores, "probabilities": scores.softmax(1), "masks": scores.argmax(1)}[kind]
    metric = FlipMetric(channels="first", kind=kind, num_classes=3)
    kept_on_device(32 * 32)
    metric.update(predictions, torch.randint(0, 3, (2, 32, 32)))
    assert metric.compute()["n_images"] == 2


def test_the_guard_of_these_tests_sees_pixels(kept_on_device):
    kept_on_device(32 * 32)
    with pytest.raises(AssertionError, match=r"cpu of \(32, 32\)"):
        metrics.decompose(torch.randn(32, 32, 3), torch.zeros(32, 32).int())


def batch_of(count=4, classes=6):
    generator = np.random.default_rng(3)
    labels = np.kron(generator.integers(0, classes, (count, 3, 3)), np.ones((4, 4), int))
    labels[:, 0] = 255
    logits = generator.normal(0, 2, (count, classes, 12, 12)) + 3 * np.moveaxis(np.eye(256)[labels], -1, 1)[:, :classes]
    return logits.astype(np.float32), labels


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_a_stream_reads_maps_of_tensors_and_no_scores(tmp_path, without_pictures, kept_on_device, kind):
    logits, labels = batch_of()
    scores = torch.tensor(logits)
    if kind == "probabilities":
        scores = scores.softmax(1)
    summaries = []
    for name in ("arrays", "tensors"):
        with stream(tmp_path / name, channels="first", ignore_index=255, kind=kind) as audit:
            if name == "arrays":
                audit.add(scores.numpy(), labels)
            else:
                # Fewer than the scores of an image.
                kept_on_device(6 * 12 * 12)
                audit.add(scores.clone().requires_grad_(), torch.tensor(labels))
        summaries.append(audit.summary)
    assert summaries[0].keys() == summaries[1].keys()
    for key, value in summaries[0].items():
        np.testing.assert_allclose(summaries[1][key], value, rtol=1e-4, atol=1e-6, err_msg=key)
    for name in ("flip_matrix.csv", "flips.csv"):
        if (tmp_path / "arrays" / name).exists():
            assert (tmp_path / "arrays" / name).read_bytes() == (tmp_path / "tensors" / name).read_bytes()


LABELS = torch.zeros(2, 4, 5, dtype=torch.int64)
SCORES = torch.randn(2, 3, 4, 5)
REFUSED = {
    "wrong rank": (SCORES[0, 0], LABELS, {}, "logits: expected 2 spatial axes and one of classes"),
    "labels of another shape": (SCORES, LABELS[:, :3], {}, r"labels: expected shape \(2, 4, 5\), as the logits"),
    "classes last": (SCORES.movedim(1, -1), LABELS, {}, "labels: expected shape"),
    "labels of floats": (SCORES, LABELS.float(), {}, "labels: expected integers, found float32"),
    "labels of bool": (SCORES, LABELS.bool(), {}, "labels: expected integers, found bool"),
    "arrays of floats": (SCORES, np.zeros((2, 4, 5)), {}, "labels: expected integers, found float64"),
    "integers for logits": (SCORES.int(), LABELS, {}, "logits: expected floating point, labels second, found int32"),
    "a label out of range": (SCORES, LABELS + 7, {}, r"labels: expected class indices 0..2, found \[7\]"),
    "a label below 0": (
        SCORES,
        LABELS - 1,
        {"ignore_index": 255},
        r"labels: expected .* ignore_index=255, found \[-1\]",
    ),
    "a mask out of range": (LABELS + 4, LABELS, {"kind": "masks", "num_classes": 3}, "predictions: expected class ind"),
    "masks of floats": (LABELS * 1.0, LABELS, {"kind": "masks", "num_classes": 3}, "predictions: expected integers"),
    "no probabilities": (SCORES, LABELS, {"kind": "probabilities"}, "probabilities: expected values in 0..1 that sum"),
    "sparse logits": (SCORES.to_sparse(), LABELS, {}, "logits: expected a dense tensor"),
    "sparse labels": (SCORES, (LABELS + 1).to_sparse(), {}, "labels: expected a dense tensor"),
    "two devices": (SCORES, LABELS.to("meta"), {}, "labels: expected on cpu, as the predictions, found on meta"),
    "NaN": (SCORES * np.nan, LABELS, {}, r"logits: expected numbers, found NaN in images \[0, 1\]"),
    "one foreground class": (SCORES[:, :2], LABELS, {}, "logits: expected two classes or more besides background=0"),
}


@pytest.mark.parametrize(("predictions", "labels", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_tensors_that_do_not_fit_are_refused_in_a_sentence(predictions, labels, options, message):
    metric = FlipMetric(channels="first", **options)
    with pytest.raises((TypeError, ValueError), match=f"^{message}") as error:
        metric.update(predictions, labels)
    assert "\n" not in str(error.value)


def test_a_tensor_that_requires_gradients_is_detached():
    metric = FlipMetric(channels="first")
    metric.update(SCORES.clone().requires_grad_(), LABELS)
    assert metric.compute()["n_images"] == 2


def test_logits_that_look_like_probabilities_warn():
    metric = FlipMetric(channels="first")
    with pytest.warns(UserWarning, match="found values in 0..1 that sum to 1") as warned:
        metric.update(SCORES.softmax(1), LABELS)
    assert warned[0].filename == __file__


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (torch.full((1, 3, 4, 5), np.inf), "found 20 without, the first at row 0, column 0, of inf"),
        (torch.full((1, 3, 4, 5), 1 / 3), "expected logits, found values in 0..1"),
    ],
    ids=["infinite", "probabilities"],
)
def test_a_stream_refuses_tensors_as_it_refuses_arrays(tmp_path, scores, message):
    audit = stream(tmp_path / "out", channels="first")
    for given_as in (scores, scores.numpy()):
        with pytest.raises(ValueError, match=f"predictions: .*{message}"):
            audit.add(given_as, np.zeros((1, 4, 5), int))
