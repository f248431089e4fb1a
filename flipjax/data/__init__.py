"""Pools of images, and the index tables that make correlation levels out of them."""

from flipjax.data import folder, prepared, synthetic

POOLS = {
    "coco_cd": prepared.load,
    "folder": folder.load,
    "synthetic": synthetic.load,
    "waterbirds_seg": prepared.load,
}
"""What `config.pool.name` may name: `load(spec) -> (Pool, Catalog)`."""
