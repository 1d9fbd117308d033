"""Suresh & Ong, EMNLP 2021: its settings and numbers, read from paper.toml; how much to run."""

import os
import tomllib
from collections import namedtuple
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, Json, ValidationError

from lclkit import files

ENCODER = "google/electra-base-discriminator"  # section 4.2
_DATA = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))

# A number of Tables 1 to 5, see [results] in paper.toml; sd and n are None for a quoted one.
Printed = namedtuple(
    "Printed", "table dataset classes model metric split mean sd n", defaults=[None, None]
)
# A t-test on test accuracy, see [tests] there; relation: "=", "<" or ">", before p.
PrintedTest = namedtuple("PrintedTest", "section dataset classes better worse t p relation n")


class Profile(BaseModel, extra="forbid"):
    """The parameters of a notebook, checked, and what a profile makes of them."""

    name: Literal[*_DATA["profiles"]] = Field(alias="profile")
    dataset: str
    recipe: Literal["released", "paper"]
    encoder: str
    classes: Literal["", *_DATA["subsets"]] | list[str] = ""
    seeds: int = Field(0, ge=0, le=1000)  # how often each loss is trained; 0: the profile's
    changes: dict | Json[dict] = {}
    lesson: bool = True
    out: str = ""
    folder: str | Path = ""  # in `out`, and by default of this profile and data alone
    texts: int | None = None  # how many to train on at most, None is all
    settings: dict = {}  # fields of training.Config, without loss, seed and changes


def profile(
    name: str, dataset: str = "supersense", recipe: str = "released", encoder: str = "", **others
) -> Profile:
    """The parameters of a notebook, as people type them; ValueError names what is no good.

    name: of a profile in paper.toml; "": $LCLKIT_PROFILE, else "demo". encoder: "": the profile's.
    others: more fields of Profile; where `out` is given it is made and tried (OSError).
    """
    name = (os.environ.get("LCLKIT_PROFILE") or "demo") if name == "" else name
    given = {"profile": name, "dataset": dataset, "recipe": recipe, "encoder": encoder, **others}
    for key, value in given.items():  # papermill takes the 16 of `-p classes 16` for a number
        given[key] = str(value).strip() if isinstance(value, str | int | float | Path) else value
    try:
        p = Profile(**given)
    except ValidationError as error:
        raise ValueError(in_words(error)) from None
    p.settings = settings(p.dataset, p.recipe) | _DATA["profiles"][p.name]
    p.texts, usual_seeds = p.settings.pop("texts", None), p.settings.pop("seeds")
    p.seeds = p.seeds or usual_seeds
    p.settings["encoder"] = p.encoder or p.settings["encoder"]
    p.settings["pooling"] = "mean" if p.settings["encoder"] == "minilm" else "cls"
    data = "" if p.dataset == "supersense" else Path(p.dataset).absolute().stem
    words = "-".join(map(str, filter(None, [p.name, data, p.classes])))
    p.folder = Path(p.out).expanduser() / (p.folder or files.safe_name(words))
    if p.out:
        files.writable(p.out)
    return p


def in_words(error: ValidationError) -> str:
    """The first fault that pydantic found, in a sentence."""
    fault = error.errors()[0]
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    expected = fault["msg"].replace("Input should be", "expected")
    return f"{fault['loc'][0]}: {expected}; found {fault['input']!r}"


def settings(dataset: str, recipe: str = "released") -> dict:
    """What the paper sets for a data set, and a recipe: fields of training.Config.

    dataset: its name, or "isear-released"; other data has the usual values. Raises ValueError.
    """
    if recipe not in RECIPES:
        raise ValueError(f"recipe: expected one of {', '.join(RECIPES)}; found {recipe!r}")
    own = dataset.removesuffix("-released").removesuffix("-paper").removesuffix("-stratified")
    return _DATA["usual"] | _DATA["own"].get(own, {}) | RECIPES[recipe]


COMMON = _DATA["common"]  # fields of training.Config that are alike in both recipes
RIVALS = _DATA["rivals"]  # model of a table -> encoder, which is trained with cross-entropy
_NONE = dict.fromkeys(_DATA["recipes"]["paper"])
RECIPES = {name: _NONE | recipe for name, recipe in _DATA["recipes"].items()}
SIZES = {name: tuple(texts) for name, texts in _DATA["datasets"].items()}
SUBSETS = {name: tuple(row["classes"]) for name, row in _DATA["subsets"].items()}
SUBSET_SIZES = {name: tuple(row["texts"]) for name, row in _DATA["subsets"].items()}
RESULTS = tuple(Printed(*row) for row in _DATA["results"]["rows"])
TESTS = tuple(PrintedTest(**{"classes": "", "t": None} | row) for row in _DATA["tests"]["rows"])
CLAIMS = {name: (claim["words"], claim["section"]) for name, claim in _DATA["claims"].items()}
