"""Detections that need no detector: cached by an earlier run, or given by the user."""
