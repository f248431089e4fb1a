"""Pools of images, and the index tables that make correlation levels out of them."""

from flipjax.data import folder, synthetic

POOLS = {"folder": folder.load, "synthetic": synthetic.load}
"""What `config.pool.name` may name: `load(spec) -> (Pool, Catalog)`."""
