"""How fast `python -m flipjax.data prepare waterbirds_seg` is, and how much memory it takes.

    python sweeps/benchmarks/preparing/bench.py

Generates a tree like CUB and Places365 (birds of 500 x 375, scenes of 256 x 256) in a temporary folder and makes TFDS
data sets of it in processes of their own: a manifest's composites, and cut-outs and scenes, both at 128 pixels;
cut-outs and scenes as large as the photos; and, for memory, a tree of many small files.
Prints a table and writes results.csv beside this file.
"""

import argparse
import io
import os
import pathlib
import platform
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
import PIL
from PIL import Image, ImageDraw, ImageFilter

from flipjax.support.frames import write_csv

SPECIES = ("001.Black_footed_Albatross", "118.House_Sparrow")
FOLDERS = ("bamboo_forest", "forest-broadleaf", "ocean", "lake-natural")
DIFFERENT = 64  # Files of different content; the others are copies.


def encode(image, **options):
    stream = io.BytesIO()
    image.save(stream, **options)
    return stream.getvalue()


def photo(rng, width, height):
    """Returns smooth colours and noise: a JPEG of about 1.5 bits a pixel, as photos have."""
    coarse = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    noisy = smooth + rng.integers(-8, 9, (height, width, 1))
    return encode(Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)), format="JPEG", quality=90)


def segmentation(rng, width, height):
    """Returns an ellipse with a soft edge, over about a quarter of the photo."""
    mask = Image.new("L", (width, height))
    x, y = (int(rng.uniform(0.1, 0.3) * side) for side in (width, height))
    ImageDraw.Draw(mask).ellipse((x, y, x + int(0.6 * width), y + int(0.6 * height)), fill=255)
    return encode(mask.filter(ImageFilter.GaussianBlur(2)), format="PNG")


def make_tree(root, *, birds, scenes, bird=(500, 375), scene=(256, 256)):
    """Writes CUB with as many birds and Places365 with as many scenes of each kind; one of two birds tests."""
    rng = np.random.default_rng(0)
    count = min(DIFFERENT, birds)
    photos = [photo(rng, *bird) for _ in range(count)]
    masks = [segmentation(rng, *bird) for _ in range(count)]
    views = [photo(rng, *scene) for _ in range(count)]
    names = [f"{SPECIES[i % 2]}/bird_{i:06d}.jpg" for i in range(birds)]
    for i, name in enumerate(names):
        write(root / "cub/images" / name, photos[i % count])
        write((root / "cub/segmentations" / name).with_suffix(".png"), masks[i % count])
    write(root / "cub/images.txt", "".join(f"{i + 1} {name}\n" for i, name in enumerate(names)).encode())
    split = "".join(f"{i + 1} {i // 2 % 2}\n" for i in range(birds))
    write(root / "cub/train_test_split.txt", split.encode())
    for folder in FOLDERS:
        for i in range(scenes // 2):
            write(root / f"places/train/{folder}/{i:08d}.jpg", views[i % count])


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def command(root, name, *more):
    folders = ["--cub_dir", root / "cub", "--places_dir", root / "places"]
    return [sys.executable, "-m", "flipjax.data", name, "waterbirds_seg", *map(str, [*folders, *more])]


def measure(name, images, root, *more):
    """Runs `prepare` in a process; wall time, processor time and peak memory are those of the whole process."""
    arguments = command(root, "prepare", *more)
    start = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(f"{name}: failed: {' '.join(arguments)}")
    processor = usage.ru_utime + usage.ru_stime
    cores = len(os.sched_getaffinity(0))
    return {
        "job": name,
        "images": images,
        "wall_s": f"{wall:.1f}",
        "images_per_second": f"{images / wall:.0f}",
        "cores_busy": f"{processor / wall / cores:.2f}",
        "ms_of_a_core_per_image": f"{1e3 * processor / images:.2f}",
        "peak_rss_mb": f"{usage.ru_maxrss / 1024:.0f}",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--birds", type=int, default=6000, help="of 500 x 375 pixels")
    parser.add_argument("--small", type=int, default=20000, help="birds of 32 x 24 pixels, for the memory")
    parser.add_argument("--size", type=int, default=128)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        large, small = root / "large", root / "small"
        make_tree(large, birds=options.birds, scenes=options.birds)
        csv = root / "own.csv"
        subprocess.run(command(large, "manifest", "--rho", "0.8", "--out", csv), check=True)
        composites = len(csv.read_text().splitlines()) - 1
        size = ("--size", options.size)
        rows.append(measure("manifest composites", composites, large, *size, "--data_dir", root, "--manifest", csv))
        both = options.birds + 2 * options.birds
        rows.append(measure("cut-outs and scenes", both, large, *size, "--data_dir", root, "--scenes", "0"))
        rows.append(measure("the same, full size", both, large, "--data_dir", root, "--scenes", "0"))
        make_tree(small, birds=options.small, scenes=64, bird=(32, 24), scene=(32, 32))
        rows.append(measure("small files", options.small + 128, small, *size, "--data_dir", root))
    print(f"{len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, Pillow {PIL.__version__}")
    print(f"load average {os.getloadavg()[0]:.1f}; this process at most {peak():.0f} MB")
    print(f"{'':22}{'images':>8}{'wall s':>8}{'images/s':>10}{'cores busy':>12}{'core ms':>9}{'peak MB':>9}")
    for row in rows:
        name, *figures = row.values()
        print(f"{name:22}" + "".join(f"{v:>{w}}" for v, w in zip(figures, (8, 8, 10, 12, 9, 9), strict=True)))
    write_csv(pathlib.Path(__file__).with_name("results.csv"), rows)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
