"""Scenes that are no class: photos with their objects filled, features of what is left, and clusters of them."""

from typing import Any

import numpy as np
import pandas as pd
from context import SHOWN, check_shown
from scipy import ndimage

from flipjax.intervene.scenes import blurred_scenes, check_photos, soft_edge
from flipjax.metrics.inputs.classes import Background, is_foreground

GROWN = 1 / 64
"""How far objects are grown before they are filled, as a share of the image's height: what shines over their border."""
FAINT = 1e-3
"""Weight of the mean of what is shown, in the fill of places that are far from all of it."""
BANDS = 3
SHRINK = 8.0
"""Images of a scene's share over all that are added to those of a class."""
RESTARTS = 20


def fill_objects(images: Any, objects: Any) -> np.ndarray:
    """Returns images with blurred surroundings in place of their objects: scenes of your own photos.

    Args:
        images: (n, H, W, channels) floating point.
        objects: bool (n, H, W), all that is not the scene, ignored pixels too.

    Returns:
        float32 (n, H, W, channels); an image that is object everywhere takes its own mean.

    Raises:
        TypeError: images that are not floating point.
        ValueError: objects of another shape.

    Example:
        >>> images = np.ones((1, 8, 8, 1)) * np.array([[[[3.0]]]])
        >>> float(fill_objects(images, np.eye(8, dtype=bool)[None]).max().round(4))
        3.0
    """
    images, objects = check_photos(images, objects, name="objects")
    if not len(images):
        return images.astype(np.float32)
    grown = _grow(objects)
    weight = (~grown)[..., None].astype(np.float32)
    weight = np.where(weight.any((1, 2, 3), keepdims=True), weight, 1)
    mean = (images * weight).sum((1, 2), keepdims=True) / weight.sum((1, 2), keepdims=True)
    fill = blurred_scenes(np.asarray(images * weight, np.result_type(images, np.float32))) + FAINT * mean
    fill = fill / (blurred_scenes(weight) + FAINT)
    cover = np.where(grown, 1, np.asarray(soft_edge(grown)))[..., None]
    return np.asarray(cover * fill + (1 - cover) * images, np.float32)


def scene_features(images: Any, objects: Any) -> np.ndarray:
    """Returns colours and textures of what objects leave of each image, pooled in three bands: float32 (n, 24).

    Of each third of the height the mean and the standard deviation of the channels, and the mean of the differences
    between neighbours across and down. Objects in place would give the answer away.

    Args:
        images: (n, H, W, 3) floating point.
        objects: bool (n, H, W).
    """
    images, objects = check_photos(images, objects, name="objects")
    filled = fill_objects(images, objects)
    free = ~_grow(objects)
    steps = [np.abs(np.diff(filled, axis=axis, append=filled.take([-1], axis))).mean(-1) for axis in (2, 1)]
    planes = np.concatenate([filled, filled**2, np.stack(steps, -1)], axis=-1)
    # Where objects take a whole band, the fill is all there is to it.
    weights = (free + FAINT)[..., None]
    channels = images.shape[-1]
    parts = []
    for band in np.array_split(np.arange(images.shape[1]), BANDS):
        mean = (planes[:, band] * weights[:, band]).sum((1, 2)) / weights[:, band].sum((1, 2))
        first, second, texture = np.split(mean, (channels, 2 * channels), axis=1)
        parts += [first, np.sqrt(np.maximum(second - first**2, 0)), texture]
    return np.concatenate(parts, axis=1).astype(np.float32)


def cluster_scenes(features: Any, *, k: int = 8, seed: int = 0) -> np.ndarray:
    """Returns the cluster of each row of features (n, m), int64 (n,) in 0..k-1: k-means, the best of 20 starts.

    Args:
        features: of `scene_features`, or of an encoder of yours on `fill_objects`; each is scaled to variance 1.
        k: clusters; in the trial 16 did no better than 8.
        seed: of the starts.

    Raises:
        ValueError: fewer rows than clusters, or features that do not vary or are not finite.

    Example:
        >>> cluster_scenes([[0.0], [0.1], [5.0], [5.1]], k=2)[[0, 2]].tolist() in ([0, 1], [1, 0])
        True
    """
    from scipy.cluster import vq

    features = np.asarray(features, np.float64)
    varying = features[:, features.std(0) != 0]
    if not varying.size:
        raise ValueError("features: expected scenes that differ, found the same features for all.")
    scaled = vq.whiten(varying)
    # SciPy calls it rng from 1.15 on, and takes the name that 1.14 knows, too.
    book, _ = vq.kmeans(scaled, k, iter=RESTARTS, seed=np.random.default_rng(seed))  # pyright: ignore[reportCallIssue]
    return vq.vq(scaled, book)[0].astype(np.int64)


def scene_evidence(
    true: pd.DataFrame,
    scenes: Any,
    shares: np.ndarray,
    training_scenes: Any,
    *,
    own: Any = None,
    background: Background = 0,
) -> np.ndarray:
    """Returns what the scene of each segment says for another class against its own: log P(k | d) - log P(k | c).

    P(k | c) is how often training images that show c have scene k, shrunk by 8 images towards the share of k; the
    segment's own image does not count.

    Args:
        true: of `flipjax.metrics.segments`, S rows.
        scenes: int (images,) of `cluster_scenes`, the scene of each evaluated image.
        shares: float (n, C), of training images (`context.image_shares`).
        training_scenes: int (n,), the scene of each; clustered together with `scenes`.
        own: int (images,), the training image that each evaluated one is, -1 for none; None: none is.
        background: the class that is background, several in a tuple, or None.

    Returns:
        float64 (S, C): 0 for the true class, the background and classes that no training image shows.

    Raises:
        ValueError, IndexError: shapes that do not fit.
        ValueError: a true class, or one flipped to, that no training image shows.

    Example:
        >>> import pandas as pd
        >>> true = pd.DataFrame({"image": [0], "class": [1], "predicted": [2], "outcome": ["flip"]})
        >>> shares = np.repeat([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5]], 8, axis=0)
        >>> scene_evidence(true, [1], shares, np.repeat([0, 1], 8)).round(3).tolist()  # log(12 / 4)
        [[0.0, 0.0, 1.099]]
    """
    scenes, training_scenes = np.asarray(scenes), np.asarray(training_scenes)
    shares = np.asarray(shares, np.float64)
    images, truth = (np.asarray(true[name], np.int64) for name in ("image", "class"))
    C = shares.shape[1]
    shown = shares >= SHOWN
    check_shown(true, truth, shown)
    k = 1 + int(max(scenes.max(initial=0), training_scenes.max(initial=0)))
    among = np.eye(k)[training_scenes]
    counts, share = shown.T.astype(np.float64) @ among, among.mean(0)
    here = scenes[images]
    row = np.full(len(true), -1) if own is None else np.asarray(own, np.int64)[images]
    left_out = shown[row] & (row >= 0)[:, None]
    # The own image has the scene that is asked about.
    n = counts[:, here].T - left_out * (training_scenes[row] == here)[:, None]
    log_share = np.log((n + SHRINK * share[here, None]) / (counts.sum(1) - left_out + SHRINK))
    evidence = log_share - log_share[np.arange(len(true)), truth][:, None]
    return np.where(is_foreground(C, background) & shown.any(0), evidence, 0.0)


def _grow(objects: np.ndarray) -> np.ndarray:
    steps = max(1, round(GROWN * objects.shape[1]))
    return ndimage.binary_dilation(objects, np.ones((1, 3, 3), bool), iterations=steps)
