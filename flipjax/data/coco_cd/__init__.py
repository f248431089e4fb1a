"""COCO-CD: cats and dogs of COCO 2017, indoors and outdoors, as a photo pool."""

from flipjax.data.coco_cd.command import add_arguments, prepare

__all__ = ["add_arguments", "prepare"]
