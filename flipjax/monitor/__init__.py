"""Monitoring a deployed model without labels: which images to inspect, and whether their scores have drifted."""

from flipjax.monitor.monitor import (
    Detection,
    Monitor,
    RegionScores,
    Verdict,
    alarm_delay,
    detection,
    fit,
    flag,
    load_monitor,
    region_scores,
    save_monitor,
    watch,
)

__all__ = [
    "Detection",
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
