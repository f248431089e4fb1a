#!/usr/bin/env bash
# From a folder of photos to the page of a sweep: sweeps/examples/own_photos.sh [DIR [WORKDIR [OPTION ...]]]
# DIR holds cutouts/<class>/NAME.jpg with a mask NAME.png, and scenes/<scene>/*; without it 64 small pictures are drawn.
set -euo pipefail
dir=${1:-} workdir=${2:-runs/own_photos}
if [ -z "$dir" ]; then
  dir=$(mktemp -d)
  python3 - "$dir" <<'PYTHON'
import pathlib, sys
import numpy as np
from PIL import Image

generator, root = np.random.default_rng(0), pathlib.Path(sys.argv[1])
mask = np.zeros((32, 32), np.uint8)
mask[8:24, 8:24] = 255
for shade, names in ((60, ("cutouts/cat", "scenes/land")), (180, ("cutouts/dog", "scenes/water"))):
    for name in names:
        (root / name).mkdir(parents=True)
        for index in range(16):
            pixels = generator.integers(0, 60, (32, 32, 3)) + shade
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{index}.jpg")
            if name.startswith("cutouts"):
                Image.fromarray(mask).save(root / name / f"{index}.png")
PYTHON
fi
flipjax data check "$dir" --size 32
# Small for the drawn pictures; for hundreds of photos leave out all but the root and the folder.
flipjax sweep --config photos_grid --config.pool.root="$dir" --config.pool.size=32 \
  --config.split.n_train=16 --config.split.n_val=8 --config.split.n_test=8 \
  --config.axes.rho=.5 --config.axes.seed=0 --config.train.epochs=1 --workdir "$workdir" "${@:3}"
