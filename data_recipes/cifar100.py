"""CIFAR-100: 60,000 colour images of 32 x 32 in a hundred classes of twenty superclasses.

Protocol: the official 50,000 training and 10,000 test images; the split "official" holds a tenth of the
training images out for validation, as Fayek et al. 2018 do. Columns: class, superclass, half (a random A/B division of the classes, as
in Yosinski et al. 2014; `halves(fs, seed)` gives others) and official (train, test).

Access: free download, no registration. Take the *binary version* cifar-100-binary.tar.gz (train.bin and
test.bin, records of 3,074 bytes) or a folder <split>/<class>/<picture>; `raw` is its folder or the archive.
The "python version" is a set of pickles, which can run code when loaded, and is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from data_recipes.torchvision_sets import assign_halves, halves, image_card, prepare_cifar

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

NAME = "cifar100"
LICENCE = "no licence stated; free for research, cite the report"
CITATION = "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"
ACCESS = "free download: cifar-100-binary.tar.gz (the binary version) from the CIFAR page, or an image folder"
SIZE = "60,000 images of 32 x 32, 170 MB"
FACTORS = {
    "class": "a hundred kinds of object",
    "superclass": "twenty groups of five classes",
    "half": "random division of the classes into A and B",
}
SUPERCLASSES = {
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food_containers": "bottle bowl can cup plate",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}
GROUP = {name: group for group, names in SUPERCLASSES.items() for name in names.split()}
CLASSES = tuple(sorted(GROUP))  # the order of the labels in the files is alphabetical
PUBLISHED = {"train": 50_000, "test": 10_000}

__all__ = ["halves", "prepare"]


def prepare(raw: str | Path, out: str | Path, *, workers: int | None = None) -> FactorSet:
    """Read the binary version or an image folder into a FactorSet of uint8 [N, 3, 32, 32].

    Raises AtlabError if neither is there, for the pickled version, and for a truncated or missing file.
    """
    sides = assign_halves(CLASSES)
    return prepare_cifar(
        raw,
        out,
        files=[("train.bin", "train"), ("test.bin", "test")],
        pickled="train",
        folders=("cifar-100-binary", "cifar100"),
        archive="cifar-100-binary.tar.gz",
        classes=CLASSES,
        label_bytes=2,
        card=image_card(NAME, LICENCE, CITATION),
        factors=list(FACTORS),
        further=lambda name: {"superclass": GROUP[name], "half": sides[name]},
        published=PUBLISHED,
        workers=workers,
    )
