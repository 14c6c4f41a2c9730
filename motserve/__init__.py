"""motserve: multi-object tracking and person re-identification as a service."""

from importlib.metadata import version

__version__ = version("motserve")
