"""Training of detectors: `python -m training.detector`."""
