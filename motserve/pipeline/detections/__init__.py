"""Detections that need no detector: kept from an earlier run, or given by the user."""
