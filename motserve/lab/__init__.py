"""Measures accuracy and speed: data sets, evaluation, experiments, comparisons, benchmarks and rendered scenes."""
