"""The service's own observability: metrics, traces, and the context of each request."""
