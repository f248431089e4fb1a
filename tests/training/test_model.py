"""A trained network as a value: its transformations, its file, and the road to PyTorch and back."""

import dataclasses
import json
import re
import shutil
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import networks
import numpy as np
import pytest
from damage import DAMAGES, FUZZ, read_damaged
from hypothesis import given, settings
from networks import Net

import flipjax
from flipjax import metrics
from flipjax.backend import convolutions
from flipjax.config import ConfigError, ModelSpec
from flipjax.models.weights.files import read_digested, write_digested
from flipjax.models.weights.initial import draw_weights
from flipjax.models.weights.pytorch_names import WeightsError
from flipjax.support.files import sha256
from flipjax.training import model as model_module
from flipjax.training.model import ABOUT, Model

NAMES = ("background", "hopper", "skimmer")
SPECS = [ModelSpec(width=4, depth=2, norm=norm) for norm in ("batch", "none")]


def drawn(spec, seed=0):
    """A model whose every weight, running statistics too, is drawn."""
    outline = jax.eval_shape(lambda: draw_weights(jax.random.key(0), spec, len(NAMES)))
    leaves, structure = jax.tree.flatten(outline)
    generator = np.random.default_rng(seed)
    noise = [jnp.asarray(generator.uniform(0.2, 1, leaf.shape).astype(leaf.dtype)) for leaf in leaves]
    return Model(jax.tree.unflatten(structure, noise), spec, NAMES, 16)


def padded(photo, stride):
    height, width = photo.shape[:2]
    return np.pad(photo, ((0, -height % stride), (0, -width % stride), (0, 0)), mode="edge")


def images(*shape):
    return np.random.default_rng(1).uniform(size=(*shape, 3)).astype(np.float32)


@pytest.mark.parametrize("spec", [*SPECS, ModelSpec(name="smp_resnet50"), ModelSpec(build=Net)], ids=lambda s: s.title)
def test_a_file_gives_the_same_model(spec, tmp_path, monkeypatch):
    networks.shrink(monkeypatch)
    model = drawn(spec)
    again = flipjax.load_model(model.save(tmp_path / "x.safetensors"), build=spec.build)
    assert (again.spec, again.class_names, again.size) == (spec, NAMES, 16)
    jax.tree.map(np.testing.assert_array_equal, again.weights, model.weights)
    sample = images(2, 32, 64)
    np.testing.assert_array_equal(again.logits(sample), model.logits(sample))


@pytest.mark.parametrize(
    ("spec", "stride"),
    [
        (ModelSpec(width=4, depth=1), 1),
        (ModelSpec(width=4, depth=3), 4),
        (ModelSpec(name="smp_mit_b2"), 32),
        (ModelSpec(build=Net), 1),
    ],
    ids=["depth 1", "depth 3", "smp", "own"],
)
def test_stride_is_the_divisor_of_sides(spec, stride):
    assert Model(weights=None, spec=spec, class_names=NAMES, size=16).stride == stride


@pytest.mark.parametrize("side", [(9, 12), (12, 9), (11, 13)], ids=str)
def test_a_photo_of_any_size_is_padded_to_its_stride(side):
    model = drawn(ModelSpec(width=4, depth=3))
    photo = images(1, *side)[0]
    with pytest.raises(ValueError, match=r"^images: expected \(B, H, W, 3\), H and W multiples of 4; found "):
        model.logits(photo[None])
    logits = model.logits(padded(photo, model.stride)[None])[0, : side[0], : side[1]]
    assert logits.shape == (*side, 3)


@pytest.mark.parametrize("spec", SPECS, ids=["norm", "no norm"])
def test_a_state_dict_gives_the_same_model(spec):
    model = drawn(spec)
    again = Model.from_state_dict(model.state_dict(), spec, list(NAMES), 16)
    assert (again.spec, again.class_names, again.size) == (spec, NAMES, 16)
    jax.tree.map(np.testing.assert_array_equal, again.weights, model.weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("head.bias"), "missing"),
        (lambda arrays: arrays.update(other=np.zeros(3, np.float32)), "unused"),
        (lambda arrays: arrays.update({"head.bias": np.zeros(4, np.float32)}), "misshapen"),
    ],
    ids=["missing", "unused", "misshapen"],
)
def test_a_wrong_state_dict_is_refused(change, message):
    model = drawn(SPECS[0])
    arrays = model.state_dict()
    change(arrays)
    with pytest.raises(WeightsError, match=message):
        Model.from_state_dict(arrays, model.spec, NAMES, 16)


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=["NaN", "infinite"])
def test_weights_that_are_not_finite_are_refused(value, tmp_path):
    model = drawn(SPECS[0])
    spoiled = jax.tree.map(lambda leaf: jnp.full_like(leaf, value), model.weights)
    path = dataclasses.replace(model, weights=spoiled).save(tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=r"x\.safetensors: .* not finite: "):
        flipjax.load_model(path)


ODD_IMAGES = {
    "masked": (np.ma.masked_array(np.zeros((1, 4, 4, 3))), "a masked one"),
    "a mapping": ({"image": np.zeros((1, 4, 4, 3))}, "a mapping"),
    "objects": (np.zeros((1, 4, 4, 3), object), "object"),
    "text": (np.zeros((1, 4, 4, 3), str), "<U1"),
    "nothing": (None, "object"),
    "a generator": ((row for row in ()), "object"),
    "integers": (np.zeros((1, 4, 4, 3), np.int32), "int32"),
    "booleans": (np.zeros((1, 4, 4, 3), bool), "bool"),
    "complex": (np.zeros((1, 4, 4, 3), complex), "complex128"),
    "two bits": (np.zeros((1, 4, 4, 3), ml_dtypes.uint2), "uint2"),
    "two bits on a device": (jnp.zeros((1, 4, 4, 3), jnp.uint2), "uint2"),
    "0 to 255 in floats": (np.full((1, 4, 4, 3), 255.0), "255.0"),
    "below 0": (np.full((1, 4, 4, 3), -0.5, np.float16), "-0.5"),
    "NaN": (np.full((1, 4, 4, 3), np.nan, np.float32), "nan"),
    "NaN on a device": (jnp.full((1, 4, 4, 3), jnp.nan), "nan"),
    "infinite": (np.full((1, 4, 4, 3), np.inf, np.float32), "inf"),
    "no image": (np.zeros((0, 4, 4, 3), np.float32), r"\(0, 4, 4, 3\)"),
    "no row": (np.zeros((1, 0, 4, 3), np.float32), r"\(1, 0, 4, 3\)"),
}


@pytest.mark.parametrize("method", ["__call__", "logits", "predict"])
@pytest.mark.parametrize(("odd", "message"), ODD_IMAGES.values(), ids=ODD_IMAGES)
def test_odd_images_are_refused_in_a_sentence(odd, message, method):
    with pytest.raises(ValueError, match=f"^images: expected .*{message}"):
        getattr(drawn(SPECS[0]), method)(odd)


@pytest.mark.parametrize("dtype", ["float64", "float16", jnp.bfloat16, ">f4"], ids=str)
def test_images_of_any_float_type_are_taken(dtype):
    model = drawn(SPECS[0])
    levels = np.round(images(2, 4, 4) * 16) / 16  # Exact in bfloat16.
    np.testing.assert_allclose(model.logits(levels.astype(dtype)), model.logits(levels), rtol=1e-5)


@pytest.mark.parametrize("value", [2.0, -0.1, np.nan])
def test_a_traced_image_out_of_range_has_no_logits(value):
    model = drawn(SPECS[0])
    both = np.float32(images(2, 4, 4))
    both[1, 0, 0, 0] = value
    logits = np.asarray(jax.jit(Model.__call__)(model, both))
    assert np.isnan(logits[1]).all()
    np.testing.assert_allclose(logits[0], model.logits(both[:1])[0], rtol=1e-5, atol=1e-5)


LATER = {"another network": {"name": "later"}, "another norm": {"norm": "later"}, "another key": {"later": 1}}
"""What a later version of flipjax may write."""


@pytest.mark.parametrize("later", LATER.values(), ids=LATER)
def test_a_network_of_a_later_version_is_named(stored, later, tmp_path):
    path, _ = stored
    arrays, metadata = read_digested(path)
    about = json.loads(metadata[ABOUT].partition(" ")[2])
    about["spec"].update(later)
    text = json.dumps(about)
    write_digested(tmp_path / "later.safetensors", arrays, {ABOUT: f"{sha256(text)} {text}"})
    with pytest.raises(WeightsError, match=r"later\.safetensors: expected the description of a network") as refused:
        flipjax.load_model(tmp_path / "later.safetensors")
    assert "\n" not in str(refused.value)


NO_FILE = pytest.mark.parametrize("path", [None, 3, "", "a\0b.safetensors", "."], ids=repr)


@NO_FILE
def test_what_names_no_file_is_not_loaded(path):
    with pytest.raises(WeightsError, match="expected the name of a file of weights, found"):
        flipjax.load_model(path)


@NO_FILE
def test_what_names_no_file_is_not_written(path, stored):
    _, model = stored
    with pytest.raises(WeightsError, match="expected the name of a file of weights, found"):
        model.save(path)


def test_any_number_of_images_is_as_each_alone():
    model = drawn(SPECS[0])
    sample = images(18, 4, 6)
    logits = model.logits(sample)
    parts = np.concatenate([model.logits(sample[:1]), model.logits(sample[1:])])
    np.testing.assert_allclose(parts, logits, rtol=1e-5)
    np.testing.assert_array_equal(model.predict(sample), logits.argmax(-1))
    np.testing.assert_allclose(jax.jit(model.nnx().__call__)(sample), logits, rtol=1e-4, atol=1e-4)
    labels = np.random.default_rng(0).integers(0, 3, logits.shape[:-1])
    whole, found = metrics.decompose(logits, labels), model.decompose(sample, labels)
    np.testing.assert_array_equal(found.confusion, whole.confusion)
    np.testing.assert_allclose(found.risk_sum, whole.risk_sum, rtol=1e-5)
    levels = np.rint(sample * 255).astype(np.uint8)
    np.testing.assert_allclose(model.logits(levels), model.logits(levels / 255), rtol=1e-5)


@pytest.fixture
def gains_at_once(monkeypatch):
    """A version of JAX on which oneDNN gains, from the first pixel on."""
    monkeypatch.setattr(jax, "__version_info__", (0, 12, 0))
    monkeypatch.setattr(convolutions, "LEAST_WORK_SMALL", 1)


def test_many_images_take_the_faster_library_and_logits_agree(onednn, request):
    model = drawn(SPECS[0])
    sample = images(3, 4, 6)
    few = model.logits(sample)
    assert model_module._library_of(model.spec, sample) == "xla"
    request.getfixturevalue("gains_at_once")
    assert model_module._library_of(model.spec, sample) == "onednn"
    np.testing.assert_allclose(model.logits(sample), few, rtol=1e-4, atol=1e-4)


def test_many_images_take_xlas_own_where_onednn_is_absent(gains_at_once, monkeypatch):
    monkeypatch.setattr(model_module, "has_onednn", lambda: False)
    assert model_module._library_of(SPECS[0], images(3, 4, 6)) == "xla"


def test_predictions_of_a_large_network_take_onednn(gains_at_once, monkeypatch):
    monkeypatch.setattr(convolutions, "LEAST_PIXELS_LARGE", 1)
    monkeypatch.setattr(model_module, "has_onednn", lambda: True)
    assert model_module._library_of(ModelSpec("smp_mit_b2"), images(1, 4, 6)) == "onednn"


def test_it_is_pure_and_a_pytree():
    models = [drawn(SPECS[0], seed) for seed in range(2)]
    sample = images(2, 4, 4)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *models)
    mapped = jax.jit(jax.vmap(lambda model: model(sample)))(stacked)
    np.testing.assert_allclose(mapped, np.stack([model.logits(sample) for model in models]), rtol=1e-4, atol=1e-4)
    # Jitted without most optimisations, JAX 0.12 gives NaN.
    slope = np.asarray(jax.grad(lambda inputs: models[0](inputs)[..., 1].mean())(sample))
    assert slope.shape == sample.shape and np.isfinite(slope).all() and np.abs(slope).max() > 0


WRONG_SHAPES = {
    "one image": lambda sample: sample[0],
    "a side that does not fit": lambda sample: sample[:, :3],
    "two channels": lambda sample: sample[..., :2],
    "integers": lambda sample: sample.astype(np.int32),
}


@pytest.mark.parametrize("change", WRONG_SHAPES.values(), ids=WRONG_SHAPES)
def test_images_of_another_form_are_refused(change):
    with pytest.raises(ValueError, match=r"^images: "):
        drawn(SPECS[0])(change(images(2, 4, 4)))


WRONG_VALUES = {"levels as floats": lambda sample: sample * 255, "no image": lambda sample: sample[:0]}


@pytest.mark.parametrize("change", WRONG_VALUES.values(), ids=WRONG_VALUES)
def test_images_of_other_values_have_no_logits(change):
    with pytest.raises(ValueError, match=r"^images: "):
        drawn(SPECS[0]).logits(change(images(2, 4, 4)))


IN_TORCH = [*SPECS, ModelSpec(width=4, depth=1), ModelSpec(width=8, depth=3)]


@pytest.mark.parametrize("spec", IN_TORCH, ids=lambda spec: f"{spec.width}, {spec.depth}, {spec.norm}")
def test_in_pytorch_logits_are_the_same(spec):
    torch = pytest.importorskip("torch", reason="PyTorch is no dependency")
    model = drawn(spec)
    sample = images(3, 16, 24)
    with torch.inference_mode():
        logits = model.torch()(torch.tensor(sample).movedim(-1, 1)).movedim(1, -1).numpy()
    exact = model.logits(sample)
    np.testing.assert_allclose(logits, exact, rtol=0, atol=1e-4 * np.abs(exact).max())


def test_weights_come_back_from_pytorch_bit_for_bit():
    pytest.importorskip("torch", reason="PyTorch is no dependency")
    model = drawn(SPECS[0])
    arrays = {name: tensor.numpy() for name, tensor in model.torch().state_dict().items()}
    again = Model.from_state_dict(arrays, model.spec, NAMES, model.size)
    jax.tree.map(np.testing.assert_array_equal, again.weights, model.weights)


def test_pytorch_reads_the_file_and_loads_it_strictly(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is no dependency")
    from safetensors.torch import load_file

    from flipjax.models import TorchUNet

    path = drawn(SPECS[0]).save(tmp_path / "x.safetensors")
    TorchUNet(3, width=4, depth=2).load_state_dict(load_file(path), strict=True)


NOT_IN_TORCH = [ModelSpec("frozen"), ModelSpec("smp_efficientnet_lite0"), ModelSpec(build=Net)]


@pytest.mark.parametrize("spec", NOT_IN_TORCH, ids=lambda spec: spec.title)
def test_a_network_that_pytorch_does_not_have_is_one_sentence(spec):
    pytest.importorskip("torch", reason="PyTorch is no dependency")
    expected = "expected one of unet, smp_resnet50, smp_mit_b2, which have a module of PyTorch; found "
    with pytest.raises(ConfigError, match=rf"^model.torch\(\): {expected}{re.escape(spec.title)}$"):
        drawn(spec).torch()


def test_without_pytorch_it_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "flipjax.models.networks.torch_networks", raising=False)
    with pytest.raises(
        ModuleNotFoundError, match=r"^model.torch\(\) and TorchUNet: expected PyTorch, found no torch; "
    ):
        drawn(SPECS[0]).torch()


def test_without_segmentation_models_pytorch_it_is_one_sentence(monkeypatch):
    pytest.importorskip("torch", reason="PyTorch is no dependency")
    networks.shrink(monkeypatch)
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"^model.torch\(\): expected segmentation_models_pytorch for smp_mit"
    ):
        drawn(ModelSpec("smp_mit_b2")).torch()


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    model = drawn(ModelSpec(width=1, depth=1))
    path = model.save(tmp_path_factory.mktemp("models") / "whole.safetensors")
    return path, model


@given(DAMAGES)
@settings(max_examples=FUZZ)
def test_a_damaged_file_is_named_or_gives_the_same_model(stored, damage):
    path, model = stored
    again = read_damaged(flipjax.load_model, path, damage, WeightsError)
    if again is not None:
        assert (again.spec, again.class_names, again.size) == (model.spec, NAMES, 16)
        jax.tree.map(np.testing.assert_array_equal, again.weights, model.weights)


@pytest.fixture(scope="module")
def files(stored, tmp_path_factory):
    """A folder of a model's file, one of a user's own network, and one of another kind."""
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp("files")
    save_file({"a": np.zeros(3, np.float32)}, folder / "other.safetensors")
    drawn(ModelSpec(build=Net)).save(folder / "own.safetensors")
    shutil.copy(stored[0], folder / "whole.safetensors")
    return folder


def one_class_more(num_classes, rngs):
    return Net(num_classes + 1, rngs)


@pytest.mark.parametrize(
    ("name", "build", "named"),
    [
        ("none", None, "none"),
        ("other", None, "other"),
        ("own", None, "build: "),
        ("whole", Net, "unused"),
        ("own", one_class_more, "misshapen"),
    ],
    ids=["absent", "of another kind", "own without build", "build without own", "another build"],
)
def test_what_is_no_such_file_is_refused(files, name, build, named):
    with pytest.raises(WeightsError, match=named):
        flipjax.load_model(files / f"{name}.safetensors", build=build)
