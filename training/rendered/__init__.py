"""Rendered pictures of people with labels: `python -m training.rendered`."""
