"""Detector and embedder as Ray Serve deployments: batching, models in memory, hot reload."""
