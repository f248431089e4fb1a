"""Monitors a deployed model without labels: which images to inspect, and whether their scores have drifted.

A monitor holds scores of reference images, a threshold above which images are flagged (`threshold`), and a drift test
(`drift`).
"""

from flipjax.monitor.drift import DriftTest, Verdict, alarm_delay, watch
from flipjax.monitor.files import load_monitor, save_monitor
from flipjax.monitor.regions import RegionScores, region_scores
from flipjax.monitor.threshold import Detection, Monitor, detection, fit, flag

__all__ = [
    "Detection",
    "DriftTest",
    "Monitor",
    "RegionScores",
    "Verdict",
    "alarm_delay",
    "detection",
    "fit",
    "flag",
    "load_monitor",
    "region_scores",
    "save_monitor",
    "watch",
]


def __dir__() -> list[str]:
    return __all__
