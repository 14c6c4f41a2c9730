"""The Ray Serve application: detector and embedder deployments, a session actor for each video, an HTTP ingress."""
