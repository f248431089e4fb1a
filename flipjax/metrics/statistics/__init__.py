"""Statistics of images: intervals, resamples, tests, rankings, selective prediction."""
