"""Recipes: every corpus from its raw files to a FactorSet, one module each.

A recipe is a module of this folder with the constants NAME, LICENCE, CITATION, ACCESS (how to get the raw
files), SIZE and FACTORS (factor -> meaning), its protocol in the docstring, and `prepare(raw, out, *,
workers=None, **options) -> FactorSet`.

Two more constants are optional: CROSSED, factors of which every combination of values has clips, and
STANDS_IN_FOR, recipes whose task this corpus can serve instead. `availability` says both, and what is not open.

>>> get("fsdd").FACTORS["speaker"]
'who speaks, by first name (6)'
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from atlab.errors import AtlabError, unknown
from atlab.system.extras import check

check(__name__)

# What not everybody can download; all other corpora are open, or rendered on this machine.
NOT_OPEN = {
    "folder": "your own data",
    "iemocap": "needs a licence",
    "imagenet": "needs a registration",
    "timit": "needs a licence",
}
REQUIRED = ("NAME", "LICENCE", "CITATION", "ACCESS", "SIZE", "FACTORS", "prepare")


def recipes() -> dict[str, ModuleType]:
    """All recipes by name, sorted; the folder's other modules are what recipes share."""
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    return {module.NAME: module for module in sorted((m for m in modules if _is_recipe(m)), key=lambda m: m.NAME)}


def get(name: str) -> ModuleType:
    """The recipe of a name; AtlabError with the nearest names if there is none."""
    if name in {module.name for module in pkgutil.iter_modules(__path__)}:
        module = importlib.import_module(f"{__name__}.{name}")
        missing = [attribute for attribute in REQUIRED if not hasattr(module, attribute)]
        if not missing and name == module.NAME:
            return module
        if missing and hasattr(module, "prepare"):
            raise AtlabError(f"data_recipes/{name}.py is not a recipe yet: it has no {', '.join(missing)}")
    found = recipes()
    if name not in found:
        raise unknown("recipe", name, found)
    return found[name]


def availability(name: str) -> list[str]:
    """Lines on a recipe's data: whether it is open, what is fully crossed, what it stands in for and what stands in for it.

    >>> availability("ravdess")
    ['open', 'fully crossed: emotion x speaker x sentence', 'stands in for: iemocap']
    >>> availability("iemocap")
    ['needs a licence', 'open stand-ins: crema_d, emodb, ravdess, tess']
    """
    recipe = get(name)
    stand_ins = [other for other, module in recipes().items() if name in getattr(module, "STANDS_IN_FOR", ())]
    told = (
        ("fully crossed", " x ".join(getattr(recipe, "CROSSED", ()))),
        ("stands in for", ", ".join(getattr(recipe, "STANDS_IN_FOR", ()))),
        ("open stand-ins", ", ".join(stand_ins)),
    )
    return [NOT_OPEN.get(name, "open"), *(f"{title}: {text}" for title, text in told if text)]


def _is_recipe(module: ModuleType) -> bool:
    return all(hasattr(module, attribute) for attribute in REQUIRED)
