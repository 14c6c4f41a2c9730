"""What the service tells of itself: metrics, traces, and the request behind each piece of work."""
