"""Watching a model at work without labels: which images to look at, and whether their scores have drifted."""

from flipjax.monitor.stream import Verdict, watch
from flipjax.monitor.threshold import Monitor, Reading, fit, flag, load, save, score

__all__ = ["Monitor", "Reading", "Verdict", "fit", "flag", "load", "save", "score", "watch"]
