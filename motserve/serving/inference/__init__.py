"""Detector and embedder as Ray Serve deployments: request batching, loaded models, hot reload."""
