"""Suresh & Ong, EMNLP 2021: its settings and numbers, read from paper.toml; how much to run."""

import os
import tomllib
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

ENCODER = "google/electra-base-discriminator"  # section 4.2
REPLACED = 0.3  # share of words replaced by synonyms, section 4.2

# A number of Tables 1 to 5, in percent. classes: one of SUBSETS, "" is all; model: "ce", "scl" or
# "lcl", the authors' ELECTRA-base, else another encoder, or quoted, and then sd and n are None.
Printed = namedtuple("Printed", "table dataset classes model metric split mean sd n")
# A t-test on test accuracy. better: the model with the higher printed mean, significant or not;
# t: None where it is not printed; relation: "=", "<" or ">", before p; n: runs of each model.
PrintedTest = namedtuple("PrintedTest", "section dataset classes better worse t p relation n")
# How much of an experiment to run. texts: how many to train on at most, None is all; seeds: how
# often each loss is trained; settings: fields of training.Config, without loss and seed.
Profile = namedtuple("Profile", "name texts seeds settings")


def profile(name: str, dataset: str, recipe: str = "released", encoder: str = "") -> Profile:
    """`settings`, with what a profile changes of them.

    name: "ci", "demo", "cpu" or "paper"; "": $LCLKIT_PROFILE, else "demo". encoder: "": the
    profile's. Raises ValueError for an unknown profile or recipe.
    """
    name = name or os.environ.get("LCLKIT_PROFILE", "demo")
    if name not in _DATA["profiles"]:
        raise ValueError(f"profile: expected one of {', '.join(_DATA['profiles'])}; found {name!r}")
    fields = settings(dataset, recipe) | _DATA["profiles"][name]
    fields["encoder"] = encoder or fields["encoder"]
    fields["pooling"] = "mean" if fields["encoder"] == "minilm" else "cls"
    fields["order"] = "random" if name == "paper" else "length"
    return Profile(name, fields.pop("texts", None), fields.pop("seeds"), fields)


def settings(dataset: str, recipe: str = "released") -> dict:
    """Learning rate, alpha, temperature of a data set, and a recipe: fields of training.Config.

    dataset: its name, with or without a variant, as in "isear-released"; data that is not in the
    paper has its usual values. Raises ValueError for an unknown recipe.
    """
    if recipe not in RECIPES:
        raise ValueError(f"recipe: expected one of {', '.join(RECIPES)}; found {recipe!r}")
    return _DATA["usual"] | _DATA["own"].get(dataset.split("-")[0], {}) | RECIPES[recipe]


def _recipe(name: str) -> dict:
    return {field: sides.get(name) for field, sides in _DATA["recipes"].items()}


def _results() -> Iterator[Printed]:
    for number, table in _DATA["tables"].items():
        for model, row in table["rows"].items():
            for (dataset, classes, metric), cell in zip(table["columns"], row.split(), strict=True):
                if cell != ".":
                    mean, sd = cell.rstrip(")").split("(")
                    spread = (None, None) if sd == "-" else (float(sd), table["n"])
                    key = number, dataset, classes, model, metric, table["split"]
                    yield Printed(*key, float(mean), *spread)


_DATA = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
COMMON = _DATA["common"]  # fields of training.Config that are alike in both recipes
RIVALS = _DATA["rivals"]  # model of a table -> encoder, which is trained with cross-entropy
RECIPES = {name: _recipe(name) for name in ("released", "paper")}
SIZES = {name: tuple(texts) for name, texts in _DATA["datasets"].items()}
SUBSETS = {name: tuple(row["classes"]) for name, row in _DATA["subsets"].items()}
SUBSET_SIZES = {name: tuple(row["texts"]) for name, row in _DATA["subsets"].items()}
RESULTS = tuple(_results())  # every number of Tables 1 to 5
TESTS = tuple(PrintedTest(**{"classes": "", "t": None} | row) for row in _DATA["tests"]["rows"])
CLAIMS = {name: (claim["words"], claim["section"]) for name, claim in _DATA["claims"].items()}
