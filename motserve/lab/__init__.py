"""How good and how fast: data sets, evaluation, experiments, comparison, benchmarks and rendered scenes."""
