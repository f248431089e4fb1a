"""Waterbirds-Seg: CUB-200-2011 birds on Places365 scenes, at any correlation level."""
