"""Training of embedders: `python -m training.reid`."""
