"""Where pools come from: folders, arrays, TFDS, drawings."""
