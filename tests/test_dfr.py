"""DFR's head against a general minimizer."""

import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from flipjax.training.dfr import fit_head


def test_a_head_is_the_minimum_of_its_convex_problem():
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 3, (4, 5, 6))
    features = rng.normal(size=(4, 5, 6, 2)) + masks[..., None] * [0.5, -0.3]
    head = {"kernel": jnp.asarray(rng.normal(size=(2, 3)), jnp.float32), "bias": jnp.ones(3)}
    result = fit_head(jnp.asarray(features, jnp.float32), jnp.asarray(masks), head, ridge=0.05)

    def loss(flat):
        table = flat.reshape(3, 3)
        logits = features.reshape(-1, 2) @ table[:2] + table[2]
        each = np.log(np.exp(logits).sum(1)) - logits[np.arange(masks.size), masks.ravel()]
        return each.mean() + 0.025 * (table**2).sum()

    wanted = minimize(loss, np.zeros(9), tol=1e-12).x.reshape(3, 3)
    np.testing.assert_allclose(result["kernel"], wanted[:2], atol=1e-4)
    np.testing.assert_allclose(result["bias"], wanted[2], atol=1e-4)
