"""COCO-CD: cats and dogs of COCO 2017, indoors and outdoors, as they were photographed."""
