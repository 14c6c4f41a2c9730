"""Weights: lookup, download, checksums, devices, provenance, and the registry of trained models."""
