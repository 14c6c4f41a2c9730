"""Candidates side by side: detectors, trackers, embedders, policies of re-identification."""
