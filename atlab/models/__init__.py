"""Networks by name, and their files."""

from atlab.models.io import copy_weights, load, save, weights_hash
from atlab.models.vgg import VGG16, vgg16

__all__ = ["VGG16", "copy_weights", "load", "save", "vgg16", "weights_hash"]
