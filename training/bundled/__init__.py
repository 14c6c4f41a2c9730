"""Trains the bundled weights on data composed of footage, pictures and rendered people."""
