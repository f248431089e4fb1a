"""COCO-CD: cats and dogs of COCO 2017, indoors and outdoors, and the photo pool made of them."""
