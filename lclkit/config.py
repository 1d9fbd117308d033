"""The settings of a run, and the weights of Eq. 3 where they are not a network's. No torch."""

import csv
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass


def as_table(weights: Any) -> str:
    """The text of a csv table, for the path of a .csv file, a DataFrame or an array."""
    try:
        if isinstance(weights, pd.DataFrame):
            return weights.to_csv(lineterminator="\n")
        if not isinstance(weights, str | Path):
            bare = {"header": False, "index": False, "lineterminator": "\n"}
            return pd.DataFrame(np.array(weights, dtype=float)).to_csv(**bare)
        if str(weights).lower().endswith(".csv"):
            return Path(weights).expanduser().read_text(encoding="utf-8-sig")
    except (TypeError, RuntimeError, ValueError) as error:
        expected = "a .csv file in UTF-8, a DataFrame or an array (C, C)"
        raise ValueError(f"weights: expected {expected}; {error}") from error
    return str(weights)


# papermill's YAML takes 3e-5, which has no point, for a word.
Number = Annotated[float, BeforeValidator(lambda x: float(x) if isinstance(x, str) else x)]
Count = Annotated[int, Field(gt=0, lt=2**31)]
Above0 = Annotated[Number, Field(gt=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
Below1 = Annotated[Number, Field(ge=0, lt=1)]
Table = Annotated[str, BeforeValidator(as_table)]


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
class Config:
    """Settings of one run: every hyper-parameter is a field, and all of them name the run.

    The defaults are the recipe "released", what the authors' code does; `paper.settings` has both
    recipes. Raises ValueError for an unknown field or a value that makes no sense.
    """

    loss: Literal["ce", "scl", "lcl"] = "lcl"  # cross-entropy, and with it a contrastive loss
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0  # of new layers, order and dropout
    encoder: str = "google/electra-base-discriminator"  # on the hub, a folder, or minilm
    pooling: Literal["cls", "mean"] = "cls"  # the first token, or the mean of all
    trainable_layers: Count | None = None  # the top n, the rest frozen; not set: all
    epochs: Count = 5  # the model of the best one is kept
    patience: Count | None = None  # stop after so many epochs without a better accuracy
    batch_size: Count = 10  # K texts, with views 2K rows; of all processes together
    accumulate: Count = 1  # batches a step; contrastive loss compares within a batch only
    lr: Above0 = 2e-5  # learning rate; falls along a line to 0
    weight_decay: Share = 1e-2  # AdamW's, as are the next three; appendix B
    adam_beta1: Below1 = 0.9  # of the mean of gradients
    adam_beta2: Below1 = 0.999  # of the mean of their squares
    adam_epsilon: Above0 = 1e-6  # beside the root of the latter
    eps_placement: Literal["before", "after"] = "before"  # the bias correction; torch: after
    clip_norm: Above0 = 1.0  # each network apart, as in the authors' code
    dropout: Below1 = 0.1  # of layers and classifiers, section 4.2
    logit_dropout: bool = True  # on Φ's class logits too
    alpha: Annotated[Share, Field(gt=0)] = 0.5  # weight of cross-entropy, Eq. 6
    temperature: Above0 = 0.3  # tau, by which similarities are divided
    form: Literal["released", "printed"] = "released"  # weight out of lcl's log, or in (Eq. 3)
    reduction: Literal["mean", "sum"] = "mean"  # of the contrastive term, Eq. 4
    detach_weights: bool = False  # so that the contrastive term does not train Ψ
    drop_last: bool = True  # leave out the last batch of an epoch if it is short
    order: Literal["random", "length"] = "random"  # length: like texts together, faster
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # of training; scores are in fp32
    augmentation: Literal["released", "paper", "none"] = "released"  # how views are made
    replaced: Share = 0.3  # share of words replaced in a view, section 4.2
    weights: Table = "network"  # of lcl: Ψ's, or a .csv file from class to class

    def __post_init__(self) -> None:
        if self.weights != "network" and "," not in self.weights:
            expected = "'network', a .csv file with commas, or an array"
            raise ValueError(f"weights: expected {expected}; found {self.weights!r:.60}")
        if self.weights != "network" and self.loss != "lcl":
            raise ValueError(f"weights: expected 'network' with {self.loss}, which has no weights")


def identity(config: Config) -> dict:
    """What names a run: its settings, but for `weights` where they are Ψ's, as it ever was."""
    return {k: v for k, v in asdict(config).items() if (k, v) != ("weights", "network")}


def class_weights(table: str, classes: Sequence[str]) -> np.ndarray:
    """S ``(C, C)``: w, Eq. 5, of each text of class y (row) for each class (column); above 0.

    table: csv, of numbers alone, or with the classes, in their order, as first row and column.
    Rows are scaled to sum to 1. ValueError where they are further from it than 0.01, or wrong.
    """
    size = len(classes)
    try:
        rows = [row for row in csv.reader(io.StringIO(table), skipinitialspace=True) if row]
        if [len(row) for row in rows] == [size + 1] * (size + 1):
            _check_order([*rows[0][1:], *(row[0] for row in rows[1:])], classes)
            rows = [row[1:] for row in rows[1:]]
        weights = np.array(rows, dtype=float)
        if weights.shape != (size, size):
            raise ValueError(f"its shape is {weights.shape}")
    except (ValueError, csv.Error) as error:
        expected = f"{size} rows of {size} numbers, alone or with the classes before and above them"
        raise ValueError(f"weights: expected {expected}; {error} in {table!r:.60}") from None
    for name, row in zip(classes, weights, strict=True):
        if not (row.min() > 0 and round(abs(row.sum() - 1), 6) <= 0.01):  # nor is NaN
            found = f"a smallest number of {row.min():g} and a sum of {row.sum():g} for {name}"
            raise ValueError(f"weights: expected rows above 0 that sum to 1; found {found}")
    return weights / weights.sum(1, keepdims=True)


def _check_order(named: list[str], classes: Sequence[str]) -> None:
    for expected, name in zip([*classes, *classes], named, strict=True):
        if " ".join(unicodedata.normalize("NFC", name).split()) != expected:
            raise ValueError(f"the data set has {expected!r} where {name!r} stands")
