"""The input of metrics: arrays, classes and groups, checked at the door."""
