"""The segments of an audit that flip, largest first, with their boxes: python sweeps/examples/worst_segments.py AUDIT

Reads AUDIT/segments.parquet, which has a row for each true segment: for a viewer such as FiftyOne or 3D Slicer, to cut
them out of your images, or to find what flips small.
"""

import sys
from pathlib import Path

import pandas as pd

folder = Path(sys.argv[1])
stored = folder / "segments.parquet"
segments = pd.read_parquet(stored) if stored.is_file() else pd.read_csv(stored.with_suffix(".csv"))
flips = segments[segments["outcome"] == "flip"].sort_values("pixels", ascending=False)
box = [name for name in ("first", "top", "left", "last", "bottom", "right") if name in segments]
print(flips[["name", "class_name", "predicted_name", "pixels", *box]].head(20).to_string(index=False))
