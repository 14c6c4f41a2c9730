"""The backbones of embedders: their table by name, and the networks that torchvision does not have."""

from motserve.reid.backbones.catalogue import BACKBONES, Backbone, identify_backbone

__all__ = ["BACKBONES", "Backbone", "identify_backbone"]
