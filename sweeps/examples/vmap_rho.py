"""Prints Flip over rho, from one program in which rho is traced: python sweeps/examples/vmap_rho.py [EPOCHS]

A CPU maps members one after another (`jax.lax.map`); a GPU or TPU is faster side by side: `jax.vmap(flip, (0, None))`.
"""

import sys

import jax
import jax.numpy as jnp

import flipjax

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 8
train = flipjax.make_train("smoke", {"train.epochs": epochs})


def flip(rho, seed):
    """Trains a member, and returns its mean Flip on the test images."""
    trained = train(train.member(rho=rho, seed=seed))
    return trained.test["val_loss"].flip.mean()


rhos = jnp.linspace(0.5, 1.0, 6)
curve = jax.jit(lambda rhos: jax.lax.map(lambda rho: flip(rho, jnp.int32(0)), rhos))(rhos)
for rho, value in zip(rhos, curve, strict=True):
    print(f"rho {rho:.2f}  Flip {value:.3f}")
