"""Downloaded data sets: are they complete, and what training and evaluation read of them."""

from motserve.datasets.catalogue import Kind
from motserve.datasets.manifest import Manifest, read_manifest
from motserve.datasets.output import Links
from motserve.datasets.prepare import PrepareOptions, prepare
from motserve.datasets.verify import verify

__all__ = ["Kind", "Links", "Manifest", "PrepareOptions", "prepare", "read_manifest", "verify"]
