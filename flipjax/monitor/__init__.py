"""Watching a model at work without labels: which images to look at, and whether their scores have drifted."""

from flipjax.monitor.by_region import RegionScores, region_scores
from flipjax.monitor.drift import Verdict, watch
from flipjax.monitor.threshold import Monitor, fit, flag, load_monitor, save_monitor

__all__ = [
    "Monitor",
    "RegionScores",
    "Verdict",
    "fit",
    "flag",
    "load_monitor",
    "region_scores",
    "save_monitor",
    "watch",
]
