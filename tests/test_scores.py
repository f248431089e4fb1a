"""Scores of logits against a slow NumPy twin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flipjax import metrics


def twin(logits, *, background=0, p=5):
    """Pixel by pixel, in float64."""
    rows = []
    for z in logits.reshape(-1, logits.shape[-1]).astype(np.float64):
        if z.argmax() == background:
            continue
        softmax = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        inside = np.delete(softmax, background) / np.delete(softmax, background).sum()
        second, first = np.sort(softmax)[-2:]
        centred = z - z.mean()
        norm = (np.abs(centred) ** p).sum() ** (1 / p)
        entropy = -(inside * np.log(inside)).sum()
        rows.append([entropy, 1 - first, 1 - (first - second), -np.log(np.exp(z).sum()), -centred.max() / norm])
    return np.mean(rows, axis=0) if rows else np.full(5, np.nan)


@pytest.mark.parametrize(("C", "background"), [(3, 0), (4, 2)])
def test_scores_equal_their_twin(C, background):
    logits = np.random.default_rng(C).normal(0, 2, (4, 6, 8, C)).astype(np.float32)
    logits[-1, ..., background] = 50  # No region.
    wanted = np.array([twin(image, background=background) for image in logits]).T
    scores = metrics.logit_scores(logits, background=background)
    np.testing.assert_allclose(list(scores.values()), wanted, rtol=2e-5)
    np.testing.assert_allclose(scores["flip_risk"], metrics.flip_risk(logits, background=background), rtol=1e-6)
    traced = jax.jit(lambda logits: metrics.logit_scores(logits, background=background))(logits)
    for name, values in scores.items():
        np.testing.assert_allclose(traced[name], values, rtol=2e-5)
    softmax = np.asarray(jax.nn.softmax(logits))
    of_probabilities = metrics.logit_scores(softmax, background=background, kind="probabilities")
    for name, values in of_probabilities.items():
        np.testing.assert_allclose(values, np.full(4, np.nan) if name == "energy" else scores[name], rtol=2e-4)


def test_limits():
    sure = jnp.full((1, 2, 3), -jnp.inf).at[..., 1].set(0.0)
    assert [float(value) for value in metrics.logit_scores(sure).values()][:4] == [0, 0, 0, 0]
    unsure = jnp.zeros((1, 2, 3)).at[..., 0].set(-1e-6)
    np.testing.assert_allclose(metrics.logit_scores(unsure)["max_softmax"], 2 / 3, rtol=1e-5)
    broken = jnp.zeros((1, 2, 3)).at[0, 0, 0].set(jnp.nan)
    assert all(np.isnan(value) for value in metrics.logit_scores(broken).values())
    with pytest.raises(ValueError, match=r"^p:"):
        metrics.logit_scores(sure, p=0)
