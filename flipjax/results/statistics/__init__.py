"""Statistics of runs: estimates, resamples, verdicts, and tables of settings."""
