"""What metrics are given: arrays, classes and groups, checked at the door."""
