"""The paper's data sets, prepared for TFDS."""
