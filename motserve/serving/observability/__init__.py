"""The service's own observability: progress, metrics, traces, and the context of each request."""
