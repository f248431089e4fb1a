"""Pools of images, and the index tables that make correlation levels out of them."""

from flipjax.data import folder, synthetic, tfds

POOLS = {
    "coco_cd": tfds.load,
    "folder": folder.load,
    "synthetic": synthetic.load,
    "tfds": tfds.load,
    "waterbirds_seg": tfds.load,
}
"""What `config.pool.name` may name: `load(spec) -> (Pool, Catalog)`."""
