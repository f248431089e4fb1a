"""Computes `flipjax.data.split.shuffle` for a traced seed, with NumPy's SeedSequence and PCG64 in 32-bit words."""

import functools
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

WORD = 2**32 - 1
MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645
U32 = jnp.uint32


def traced_orders(seed: jax.Array, counts: Mapping[str, int]) -> list[jax.Array]:
    """Returns `shuffle` of arange(count) for each name.

    Args:
      seed: integer scalar in [0, 2**32), which may be traced.
      counts: how many positions, by name.
    """
    words = np.stack([np.frombuffer(hashlib.sha256(name.encode()).digest(), "<u4") for name in counts])
    # One call for all names, since the program takes seconds to compile.
    low, high = jax.vmap(functools.partial(_draws, seed, count=max(counts.values())))(jnp.asarray(words))
    return [jnp.lexsort((low[i, :count], high[i, :count])) for i, count in enumerate(counts.values())]


def _constants(value: int, factor: int) -> Iterator[np.uint32]:
    return map(np.uint32, itertools.accumulate(itertools.repeat(factor), lambda a, b: a * b & WORD, initial=value))


def _seed_words(entropy: Sequence[Any]) -> list[Any]:
    """Returns SeedSequence(entropy).generate_state(8), for entropy of more than four words."""
    constants = itertools.pairwise(_constants(0x43B0D7E5, 0x931E8875))

    def hashed(value: Any, constants: Iterator) -> Any:
        before, after = next(constants)
        value = (value ^ before) * after
        return value ^ (value >> 16)

    pool = [hashed(word, constants) for word in entropy[:4]]
    # Each word of the pool, then the rest of the entropy, is mixed into all others.
    for source in range(len(entropy)):
        for target in range(4):
            if source != target:
                word = hashed(pool[source] if source < 4 else entropy[source], constants)
                mixed = U32(0xCA01F9DD) * pool[target] - U32(0x4973F715) * word
                pool[target] = mixed ^ (mixed >> 16)
    constants = itertools.pairwise(_constants(0x8B51F9DD, 0x58F38DED))
    return [hashed(pool[i % 4], constants) for i in range(8)]


def _limbs(number: int) -> jax.Array:
    return jnp.array([number >> 16 * k & 0xFFFF for k in range(8)], U32)


def _multiply_add(a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """Returns a b + c modulo 2**128, each in eight limbs of 16 bits, the lowest first."""
    products = a[:, None] * b
    place = np.add.outer(np.arange(8), np.arange(8))
    sums = c.at[place].add(products & 0xFFFF, mode="drop").at[place + 1].add(products >> 16, mode="drop")
    limbs, carry = [], U32(0)
    for k in range(8):
        total = sums[k] + carry
        limbs.append(total & 0xFFFF)
        carry = total >> 16
    return jnp.stack(limbs)


def _draws(seed: jax.Array, name: jax.Array, *, count: int) -> tuple[jax.Array, jax.Array]:
    """Returns the low and the high words (count,) of the first numbers of PCG64."""
    words = _seed_words([jnp.asarray(seed).astype(U32), *name])
    # 64-bit numbers, the high one first, each with its low word first.
    start, sequence = (
        jnp.stack([limb for i in order for limb in (words[i] & 0xFFFF, words[i] >> 16)])
        for order in ((2, 3, 0, 1), (6, 7, 4, 5))
    )
    increment = _multiply_add(sequence, _limbs(2), _limbs(1))
    step = functools.partial(_multiply_add, b=_limbs(MULTIPLIER), c=increment)

    def draw(state: jax.Array, _: None) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        state = step(state)
        w = state[::2] | state[1::2] << 16
        # XSL-RR: the halves joined by xor, rotated to the right by the six highest bits.
        low, high, turn = w[0] ^ w[2], w[1] ^ w[3], w[3] >> 26
        low, high = jnp.where(turn >= 32, high, low), jnp.where(turn >= 32, low, high)
        right, left = turn & 31, -turn & 31
        rotated = (low >> right) | (high << left), (high >> right) | (low << left)
        return state, (jnp.where(right == 0, low, rotated[0]), jnp.where(right == 0, high, rotated[1]))

    _, drawn = jax.lax.scan(draw, step(_multiply_add(increment, _limbs(1), start)), None, length=count)
    return drawn
