"""The sources of pools: folders, arrays, TFDS, drawings."""
