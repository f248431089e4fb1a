"""Settings of JAX that users turn on to check their own code change no number of a metric, and stop none."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flipjax import intervene, metrics, monitor
from flipjax.audit import stream
from flipjax.metrics import Anatomy, FlipCounts, FlipMetric
from metrics.logits import random_case

LOGITS, LABELS = random_case(3, (2, 5, 6), 4)
LABELS[0] = 0  # An image without true foreground, whose shares are NaN.
DEVICE = jnp.asarray(LOGITS), jnp.asarray(LABELS)
KEY = jax.random.key(0)
SCENES = np.linspace(0, 1, 2 * 5 * 6 * 3, dtype=np.float32).reshape(2, 5, 6, 3)
SETTINGS = {
    "rank promotion": lambda: jax.numpy_rank_promotion("raise"),
    "strict types": lambda: jax.numpy_dtype_promotion("strict"),
    "transfer guard": lambda: jax.transfer_guard("disallow"),
    "debug NaN": lambda: jax.debug_nans(True),
    "debug infinity": lambda: jax.debug_infs(True),
    "matrix precision": lambda: jax.default_matmul_precision("bfloat16"),
    "x64": lambda: jax.enable_x64(True),
}


def shares(decomposition):
    return [getattr(decomposition, name) for name in ("correct", "flip", "miss", "spill", "flip_risk")]


def rates_of_masks():
    return shares(metrics.decompose(LABELS, LABELS, kind="masks", num_classes=4))


def counts():
    whole = FlipCounts.empty(num_classes=4)
    for batch in (LOGITS[:1], LABELS[:1]), (LOGITS[1:], LABELS[1:]):
        whole = whole.merge(FlipCounts.from_model_output(*batch, mask=np.array([True])))
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), whole)
    return [whole.compute(), stacked.reduce().compute()]


def metric():
    gathered = FlipMetric()
    gathered.update(LOGITS, LABELS)
    return gathered.compute()


def kinds():
    anatomy, images = Anatomy(mirror=((1, 2),), chains=((1, 2, 3),)), metrics.decompose(*DEVICE)
    found = metrics.flip_kinds(images, anatomy)
    return [*found, found.mirror, found.shift, *metrics.relabelling(images, anatomy)]


def swapped():
    def predict(images):
        photos = np.asarray(images)
        return np.concatenate([0.5 - photos[..., :1], photos], axis=-1)

    means = intervene.mean_scenes(SCENES, kinds=[0, 1])
    odds = intervene.scene_marginal(predict, SCENES, means, mirror=True)
    logits = predict(SCENES)
    return [odds, intervene.repair(logits, odds, center=np.zeros(3)), intervene.mirror_risk(logits, logits[:, :, ::-1])]


FUNCTIONS = {
    "decompose": lambda: metrics.decompose(LOGITS, LABELS),
    "decompose on a device": lambda: metrics.decompose(*DEVICE),
    "decompose under jit": lambda: jax.jit(metrics.decompose)(*DEVICE),
    "shares": lambda: shares(metrics.decompose(*DEVICE)),
    "shares of masks": rates_of_masks,
    "summarize": lambda: metrics.summarize(metrics.decompose(*DEVICE)),
    "flip_risk": lambda: [metrics.flip_risk(LOGITS), metrics.flip_risk(DEVICE[0])],
    "scores": lambda: metrics.logit_scores(LOGITS),
    "maps": lambda: [metrics.error_map(LOGITS, LABELS), metrics.risk_map(DEVICE[0])],
    "region_sums": lambda: metrics.region_sums(LOGITS, LABELS),
    "segments": lambda: metrics.segments(LOGITS, LABELS).select_dtypes("number").to_dict("list"),
    "bootstrap": lambda: metrics.bootstrap(metrics.decompose(*DEVICE), "fg_flip", key=KEY, samples=9),
    "kinds of flips": kinds,
    "FlipCounts": counts,
    "FlipMetric": metric,
    "scene swap": swapped,
    "region_scores": lambda: list(monitor.region_scores(LOGITS)),
}
"""What metrics compute, as trees of numbers."""


def compare(found, expected, **tolerance):
    found, expected = jax.tree.leaves(found), jax.tree.leaves(expected)
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(value), np.asarray(wanted), **tolerance)


@contextlib.contextmanager
def all_settings():
    """All settings but x64, which compiles other programs."""
    with contextlib.ExitStack() as stack:
        for name in SETTINGS.keys() - {"x64"}:
            stack.enter_context(SETTINGS[name]())
        yield


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_metric_is_the_same_under_settings_of_jax(function):
    compute = FUNCTIONS[function]
    expected = compute()
    with all_settings():
        found = compute()
    compare(found, expected, rtol=0)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("function", ["decompose", "shares", "summarize", "flip_risk", "FlipCounts"])
def test_a_metric_is_the_same_under_each_setting(function, setting):
    compute = FUNCTIONS[function]
    expected = compute()
    with SETTINGS[setting]():
        found = compute()
    # Eager arithmetic is in float64 under x64.
    compare(found, expected, rtol=1e-6 if setting == "x64" else 0, atol=1e-7 if setting == "x64" else 0)


def rates_of_stream(folder):
    with stream(folder, class_names=["background", "cat", "dog", "cow"]) as audit:
        audit.add(LOGITS, LABELS)
    return {key: value for key, value in audit.summary.items() if isinstance(value, float)}


def test_an_audit_of_batches_is_the_same_under_settings_of_jax(tmp_path, without_pictures):
    expected = rates_of_stream(tmp_path / "plain")
    assert expected
    for name in ("x64", "all"):
        with {"x64": SETTINGS["x64"], "all": all_settings}[name]():
            np.testing.assert_equal(rates_of_stream(tmp_path / name), expected)


def test_a_guard_that_forbids_all_transfers_is_named():
    with jax.transfer_guard("disallow_explicit"), pytest.raises(ValueError, match="expected allow") as error:
        metrics.decompose(LOGITS, LABELS)
    assert str(error.value).startswith("jax_transfer_guard_host_to_device: expected allow, log or disallow")


def test_debugging_finds_what_a_user_computes():
    with jax.debug_nans(True):
        metrics.decompose(*DEVICE)
        with pytest.raises(FloatingPointError):
            jnp.zeros(1) / 0


def kernels_of(images):
    return [
        metrics.decompose(*images),
        shares(metrics.decompose(*images)),
        metrics.flip_risk(images[0]),
        metrics.error_map(*images),
        FlipCounts.from_model_output(*images).compute(),
        metrics.summarize(metrics.decompose(*images)),
    ]


def test_images_on_a_mesh_of_explicit_axes():
    mesh = jax.make_mesh((2,), ("images",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        found = kernels_of([jax.device_put(array, jax.P("images")) for array in DEVICE])
    compare(found, kernels_of(DEVICE), rtol=1e-6)
