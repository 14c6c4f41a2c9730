"""Checks downloaded data sets and writes them in the layout that training and evaluation read."""

from motserve.lab.datasets.catalogue import Kind
from motserve.lab.datasets.manifest import Manifest, read_manifest
from motserve.lab.datasets.output import Links
from motserve.lab.datasets.prepare import PrepareOptions, prepare
from motserve.lab.datasets.verify import verify

__all__ = ["Kind", "Links", "Manifest", "PrepareOptions", "prepare", "read_manifest", "verify"]
