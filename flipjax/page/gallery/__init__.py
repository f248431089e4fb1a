"""The gallery of a run or an audit: images are chosen and stored here; `page.tiles` draws them."""

from flipjax.page.gallery.choose import PAIRS, choose_images
from flipjax.page.gallery.store import (
    GalleryMaps,
    StoredImages,
    concatenate_galleries,
    load_gallery,
    make_gallery,
    maps_of,
    save_gallery,
)

__all__ = [
    "PAIRS",
    "GalleryMaps",
    "StoredImages",
    "choose_images",
    "concatenate_galleries",
    "load_gallery",
    "make_gallery",
    "maps_of",
    "save_gallery",
]


def __dir__() -> list[str]:
    return __all__
