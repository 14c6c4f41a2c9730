"""Search for parameters of tracker and re-identification."""
