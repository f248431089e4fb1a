"""Waterbirds-Seg: birds of CUB-200-2011, cut out, and scenes of Places365; or composites of both.

Composites are made with integer arithmetic.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from flipjax.data.decoding import images
from flipjax.data.decoding.images import BadFileError, Pixels
from flipjax.data.part_names import FREE, PARTS
from flipjax.data.pool import PoolItem
from flipjax.data.prepare.builders import ArchiveBuilder, Example, check_files
from flipjax.data.prepare.downloads import Archive
from flipjax.data.prepare.waterbirds_seg import manifest
from flipjax.data.prepare.waterbirds_seg.manifest import ManifestRow, bird_files, scene_file
from flipjax.data.prepare.waterbirds_seg.reference import SCENES
from flipjax.data.split import shuffle

CUB = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"
"""Address of the birds' photos."""
SEGMENTATIONS = "https://data.caltech.edu/records/w9d68-gec53/files/segmentations.tgz"
"""Address of the birds' masks."""
PLACES = "http://data.csail.mit.edu/places/places365/places365standard_easyformat.tar"
"""Address of the scenes' photos."""
ARCHIVES = (
    Archive(CUB, "^CUB_200_2011/", md5="97eceeb196236b17998738112f37df78"),
    Archive(SEGMENTATIONS, into="CUB_200_2011"),
    Archive(PLACES, "/(bamboo_forest|forest-broadleaf|ocean|lake-natural)/"),
)
"""Archives of `--download`: 27 GB, of which 3 GB are unpacked."""
SPLITS = ("train", "validation", "test")
"""Splits of the data set; their numbers in metadata.csv are the places here."""
THRESHOLD = 127
"""A pixel is the bird's where its grey segmentation is above this."""

Splits = dict[str, list[PoolItem]]
"""The items of each split."""


@dataclasses.dataclass(eq=False, kw_only=True)
class WaterbirdsSegConfig(tfds.core.BuilderConfig):
    """Options of the data set.

    Attributes:
        composites: whether to paste birds onto the scenes of a manifest; otherwise birds and scenes are separate.
        manifests: names of CSVs in manual_dir. Composites use the first; otherwise the birds and scenes of all of them
            keep their parts. None: all birds of CUB, its test birds fixed to test.
        scenes: scene photos of each kind where no manifest names them; 0: all.
        size: pixels a side; 0: as large as each photo.
        fix_labels: whether the three landbirds that the classic lists call waterbirds are landbirds.
    """

    composites: bool = False
    manifests: tuple[str, ...] = ()
    scenes: int = SCENES
    size: int = 0
    fix_labels: bool = False


class Builder(ArchiveBuilder):
    """Waterbirds-Seg (Achara et al., 2026): birds of CUB-200-2011, cut out, and scenes of Places365, or composites."""

    BUILDER_CONFIGS = [  # noqa: RUF012 - TFDS's way.
        WaterbirdsSegConfig(name="cutouts", description="Birds with soft alpha, and scenes."),
        WaterbirdsSegConfig(name="manifest", composites=True, manifests=("metadata.csv",), description="Composites."),
    ]
    builder_config: WaterbirdsSegConfig  # pyright: ignore[reportIncompatibleMethodOverride]

    def _info(self) -> tfds.core.DatasetInfo:
        """Returns the features."""
        part = tfds.features.ClassLabel(names=PARTS, doc="part of the split; -1 for any")
        homepage = "https://arxiv.org/abs/2604.13326"
        return self.info_of(manifest.CLASS_NAMES, manifest.SCENE_NAMES, homepage, id=tfds.features.Text(), part=part)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        """Returns the splits: `birds` and `scenes`, or those of a manifest."""
        config = self.builder_config
        folder = Path(epath.Path(dl_manager.manual_dir))
        # Messages name the original folders instead of links to them.
        cub_dir = (folder / "CUB_200_2011").resolve()
        places_dir = (folder / "places365").resolve()
        rows: list[ManifestRow] = []
        for name in config.manifests:
            rows += manifest.read_manifest((folder / name).resolve(), fix_labels=config.fix_labels)
        if config.composites:
            splits = composites_of(rows, cub_dir, places_dir)
        elif rows:
            splits = parts_of(rows, cub_dir, places_dir)
        else:
            splits = cut_outs_of(cub_dir, places_dir, scenes=config.scenes, fix_labels=config.fix_labels)
        check_files([*itertools.chain.from_iterable(splits.values())])
        generators = {}
        for split, items in splits.items():
            if items:
                plural = split
                if config.composites:
                    plural = f"{split} images"
                generators[split] = self._generate_examples(items, plural)
        return generators

    def encode(self, item: PoolItem) -> Example:
        """Returns name and part of an item, image and mask of `draw_item` as PNG files, and the aspect."""
        pixels = draw_item(item, self.builder_config.size)
        return {
            "id": item.name,
            "part": item.part,
            "aspect": pixels.aspect,
            "image": images.encode_png(Image.fromarray(pixels.image)),
            "mask": images.encode_png(Image.fromarray(pixels.mask)),
        }


def cut_outs_of(cub_dir: Path, places_dir: Path, *, scenes: int, fix_labels: bool) -> Splits:
    """Returns all birds of CUB, its test birds fixed to test, and free scenes.

    Args:
        cub_dir: CUB_200_2011.
        places_dir: Places365.
        scenes: of each kind, drawn by seed 0; 0: all.
        fix_labels: as in `flipjax.data.prepare.waterbirds_seg.manifest.class_of`.

    Raises:
        ConfigError: lists are malformed, or there is no scene of one kind.
    """
    birds = manifest.read_birds(cub_dir, fix_labels=fix_labels)
    all_scenes = manifest.read_scenes(places_dir)
    drawn_scenes = []
    for kind in (0, 1):
        of_kind = [item for item in all_scenes if item.scene == kind]
        order = shuffle(np.arange(len(of_kind)), 0, f"waterbirds scenes {kind}")
        if scenes:
            order = order[:scenes]
        drawn_scenes += [of_kind[i] for i in sorted(order)]
    return {"birds": list(birds.values()), "scenes": drawn_scenes}


def parts_of(rows: Sequence[ManifestRow], cub_dir: Path, places_dir: Path) -> Splits:
    """Returns the birds and scenes of manifests, each in the part of its first row."""
    birds: dict[str, PoolItem] = {}
    scenes: dict[str, PoolItem] = {}
    for row in rows:
        bird = PoolItem(row.img_filename, bird_files(cub_dir, row.img_filename), row.y, part=row.split)
        birds.setdefault(bird.name, bird)
        files = (scene_file(places_dir, row.place_filename),)
        scene = PoolItem(row.place_filename, files, scene=row.place, part=row.split)
        scenes.setdefault(scene.name, scene)
    return {"birds": list(birds.values()), "scenes": list(scenes.values())}


def composites_of(rows: Sequence[ManifestRow], cub_dir: Path, places_dir: Path) -> Splits:
    """Returns the composites of a manifest: birds in scenes, in its parts; all are free if a part lacks a group."""
    groups_present = {(row.split, row.group_id) for row in rows}
    has_all_groups = groups_present == {(part, group) for part in range(3) for group in range(4)}
    splits: Splits = {split: [] for split in SPLITS}
    for row in rows:
        files = (*bird_files(cub_dir, row.img_filename), scene_file(places_dir, row.place_filename))
        part = FREE
        if has_all_groups:
            part = row.split
        item = PoolItem(row.img_filename, files, row.y, row.place, part)
        splits[SPLITS[row.split]].append(item)
    return splits


def read_bird(photo: Path, segmentation: Path) -> tuple[Image.Image, Image.Image]:
    """Reads a bird: the photo (mode RGB, greyscale photos too) and its segmentation (L; RGB if it has more channels).

    EXIF orientation is ignored, as in the reference: segmentations refer to the stored pixels.

    Raises:
        BadFileError: a file is damaged or truncated, or the two differ in size.
    """
    image = images.rgb(images.read_image(photo), str(photo))
    alpha = images.read_image(segmentation)
    images.check_bits(alpha, str(segmentation))
    images.check_sizes(image, alpha, photo_name=str(photo), mask_name=str(segmentation))
    if alpha.mode != "L":
        alpha = alpha.convert("RGB")
    return image, alpha


def draw_item(item: PoolItem, size: int) -> Pixels:
    """Returns a cut-out and its alpha, a composite and its labels, or a scene and zeros.

    Args:
        item: its files are photo and segmentation of a bird, all three, or a scene.
        size: pixels a side; 0: as large as the photo.

    Raises:
        BadFileError: a file is damaged, or sizes differ; EmptyObjectError where nothing of the bird is left.
    """
    scene = item.files[-1]
    if len(item.files) == 1:
        return images.read_scene(images.read_image(scene), name=str(scene), size=size)
    photo, alpha = read_bird(*item.files[:2])
    if len(item.files) == 2:
        return images.cut_out(photo, alpha.convert("L"), name=item.name, size=size)
    view = images.rgb(images.read_image(scene), str(scene))
    # A scene of a few columns or rows behind a large bird would be enlarged beyond any memory.
    enlargement = max(photo.width / view.width, photo.height / view.height)
    if enlargement**2 * view.width * view.height > images.MAX_PIXELS:
        sizes = f"{view.width} x {view.height} pixels cannot fill {photo.width} x {photo.height}"
        raise BadFileError(f"{scene}: {sizes}: enlarged to both sides it has more than {images.MAX_PIXELS:,}")
    mask = np.asarray(label_mask(alpha, 1 + item.y, size))
    images.check_object(mask, item.name)
    image = images.squash(composite(photo, alpha, view), size)
    return Pixels(np.asarray(image), mask, photo.width / photo.height)


def composite(bird: Image.Image, alpha: Image.Image, scene: Image.Image) -> Image.Image:
    """Pastes a bird onto a scene: bird * alpha + scene * (1 - alpha), each product rounded to 8 bits.

    Args:
        bird: RGB.
        alpha: L or RGB, of the bird's size; 255 is 1.
        scene: RGB of any size, cropped and resized by `fit_scene`.

    Returns:
        RGB, of the bird's size: the pixels of the reference, before its JPEG encoder.

    Example:
        >>> bird = Image.new("RGB", (2, 1), (100, 0, 255))
        >>> alpha = Image.new("L", (2, 1), 51)  # 0.2
        >>> composite(bird, alpha, Image.new("RGB", (4, 4), (10, 3, 0))).getpixel((0, 0))  # 20 + 8, 0 + 2, 51 + 0
        (28, 2, 51)
    """
    whole = fit_scene(scene, bird.size)
    box = alpha.getbbox()
    if box:
        front = np.asarray(bird.crop(box), np.uint16)
        back = np.asarray(whole.crop(box), np.uint16)
        cover = np.asarray(alpha.crop(box), np.uint16).reshape(*front.shape[:2], -1)
        both = _weighted(front, cover) + _weighted(back, 255 - cover)
        whole.paste(Image.fromarray(both.astype(np.uint8)), box)
    return whole


def _weighted(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns round(values * weights / 255), exactly, of uint16 arrays up to 255."""
    products = values * weights + 128
    return (products + (products >> 8)) >> 8


def label_mask(alpha: Image.Image, label: int, size: int) -> Image.Image:
    """Returns the mask of a composite, mode L: `label` where the grey segmentation is above 127, else 0.

    At size x size the nearest pixel is taken; for size 0 the mask is as large as the segmentation.
    """
    if size:
        alpha = alpha.resize((size, size), Image.Resampling.NEAREST)
    return alpha.convert("L").point([label if value > THRESHOLD else 0 for value in range(256)])


def fit_scene(scene: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Crops the centre of a scene to the aspect ratio of `size` (width and height) and resizes it (Lanczos).

    A scene smaller than `size` in either side is enlarged (Lanczos) before: to its width, or to its height where the
    width would leave the height short.
    """
    width, height = size
    while scene.width < width or scene.height < height:
        larger = (width, int(width / scene.width * scene.height))
        if larger[1] < height:
            larger = (int(height / scene.height * scene.width), height)
        scene = scene.resize(larger, Image.Resampling.LANCZOS)
    aspect = width / height
    left = 0
    top = 0
    if scene.width / scene.height > aspect:
        left = (scene.width - int(aspect * scene.height)) // 2
    else:
        top = (scene.height - int(scene.width / aspect)) // 2
    # Not resize(box=): its filter would reach beyond the crop.
    middle = scene.crop((left, top, scene.width - left, scene.height - top))
    return middle.resize(size, Image.Resampling.LANCZOS)
