"""Measurements of speed on made-up input, reproducible from a seed."""
