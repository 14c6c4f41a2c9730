"""Weights: where they come from, what they are checked by, where they run, and the registry of trained ones."""
