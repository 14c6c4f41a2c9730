"""Experiments: run models over data, cache their outputs, score the results and log them."""
