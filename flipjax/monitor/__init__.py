"""Watching a model at work without labels: which images to look at, and whether their scores have drifted."""

from flipjax.monitor.drift import Verdict, watch
from flipjax.monitor.threshold import Monitor, fit, flag, load_monitor, save_monitor

__all__ = ["Monitor", "Verdict", "fit", "flag", "load_monitor", "save_monitor", "watch"]
