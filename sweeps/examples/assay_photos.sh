#!/usr/bin/env bash
# Asks whether networks use an attribute of photos in a folder: sweeps/examples/assay_photos.sh [DIR ATTRIBUTE [OPTION ...]]
# DIR holds images/, masks/ and metadata.csv with filename, class and a column for the attribute; without it 96 small
# pictures of two cameras are drawn, and networks train for two epochs, too short for a verdict.
set -euo pipefail
if [ $# -ge 2 ]; then
  exec flipjax assay "$1" --attribute "$2" "${@:3}"
fi
dir=$(mktemp -d)
python3 - "$dir" <<'PYTHON'
import pathlib, sys
import numpy as np
from PIL import Image

generator, root = np.random.default_rng(0), pathlib.Path(sys.argv[1])
for name in ("images", "masks"):
    (root / name).mkdir()
lines = ["filename,class,camera"]
for index in range(96):
    number = index % 2
    camera = number if generator.random() < 0.8 else 1 - number
    pixels = generator.integers(0, 60, (32, 32, 3)) + 60 + 60 * camera
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8 : 16 + 8 * number] = 1 + number
    pixels[mask > 0] += 40
    Image.fromarray(pixels.astype(np.uint8)).save(root / "images" / f"{index}.png")
    Image.fromarray(mask).save(root / "masks" / f"{index}.png")
    lines.append(f"{index}.png,{('cat', 'dog')[number]},{('old', 'new')[camera]}")
(root / "metadata.csv").write_text("\n".join(lines))
PYTHON
flipjax assay "$dir" --attribute camera --size 32 --folds 2 --seeds 2 --epochs 2 --out runs/assay_photos
