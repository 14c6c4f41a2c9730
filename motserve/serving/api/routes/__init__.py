"""The HTTP routes, a router for each resource."""
