"""The data sets: load, subset, sample, hash.

`load` looks for a data set's raw files in `root`, then $LCLKIT_DATA, then the user's cache, and
downloads them only if none of these has them. `supersense`, the built-in data set, is made from
WordNet alone. Three variants keep apart what is sensible ("default"), what the authors' code does
("released") and what the paper says ("paper"); sources.toml tells how they differ. White space at
the ends of a text, which tokenisers drop, is dropped in all of them.
"""

import csv
import hashlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import pooch

from lclkit import paper, sources
from lclkit.sources import DataError

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, repr=False)
class Dataset:
    """Texts and labels in three splits.

    classes: names, in the order of the labels. ordinal: whether that order means something (SST).
    train, valid, test: frames with the columns `text` (str) and `label` (int index into `classes`).
    Raises DataError for a label out of range, an empty split or text, a class without training
    texts.
    """

    name: str
    classes: tuple[str, ...]
    train: pd.DataFrame
    valid: pd.DataFrame
    test: pd.DataFrame
    ordinal: bool = False
    citation: str = "none given"
    licence: str = "none given"

    def __post_init__(self) -> None:
        last = len(self.classes) - 1
        for split, frame in self._frames().items():
            where = f"{self.name}, {split}"
            if frame.empty:
                raise DataError(f"{self.name}: no text in {split}")
            outside = frame.label[~frame.label.between(0, last)]
            if len(outside):
                raise DataError(f"{where}: label {outside.iloc[0]} is outside 0 to {last}")
            empty = frame.text.str.strip() == ""
            if empty.any():
                raise DataError(f"{where}: text {empty.argmax()} (counted from 0) is empty")
        for label, name in enumerate(self.classes):
            if label not in self.train.label.values:
                raise DataError(f"{self.name}: class {name!r} has no training text")

    def __repr__(self) -> str:
        sizes = " / ".join(f"{len(frame):,}" for frame in self._frames().values())
        return f"{self.name}: {len(self.classes)} classes; {sizes} texts (train / valid / test)"

    def _frames(self) -> dict[str, pd.DataFrame]:
        return {split: getattr(self, split) for split in SPLITS}

    @property
    def hash(self) -> str:
        """sha256 over class names, texts and labels of all splits."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for split, frame in self._frames().items():
            for text, label in zip(frame.text, frame.label, strict=True):
                digest.update(f"\0{split}\0{label}\0{text}".encode())
        return digest.hexdigest()

    def subset(self, classes: str | Iterable[str]) -> Self:
        """Only some classes: their names, or the name of a subset of section 5.3 ("4-hard-a").

        Labels are renumbered; the classes keep their order. Raises DataError for an unknown name.
        """
        title = classes if isinstance(classes, str) else ""
        if title:
            _check_known("class subset", title, paper.SUBSETS)
            classes = paper.SUBSETS[title]
        chosen = set(classes)
        for name in sorted(chosen):
            _check_known(f"class of {self.name}", name, self.classes)
        if len(chosen) < 2:
            raise DataError("a subset needs at least two classes")
        names = tuple(name for name in self.classes if name in chosen)
        new_labels = {self.classes.index(name): label for label, name in enumerate(names)}
        frames = {}
        for split, frame in self._frames().items():
            kept = frame[frame.label.isin(new_labels)].reset_index(drop=True)
            frames[split] = kept.assign(label=kept.label.map(new_labels))
        return replace(self, name=f"{self.name}-{title or len(names)}", classes=names, **frames)

    def sample(self, per_class: int) -> Self:
        """At most `per_class` training texts of each class; of valid and test a quarter as many."""
        frames = {}
        for split, frame in self._frames().items():
            size = per_class if split == "train" else per_class // 4
            drawn = frame.sample(frac=1, random_state=0).groupby("label").head(size)
            frames[split] = drawn.sort_index().reset_index(drop=True)
        return replace(self, **frames)


def load(name: str | Path, root: str | Path | None = None, variant: str = "default") -> Dataset:
    """Load a data set by name, or one's own `.csv` file with the columns `text` and `label`.

    name: "supersense" (built in), "empatheticdialogues", "goemotions", "isear", "emoint", "sst5",
    "sst2", or a csv file's path; that is split 80/10/10, stratified and seeded. root: a folder to
    search first. variant: the data set is named after it, as in "emoint-released"; isear has a
    fourth, "stratified", built-in and own data have only "default".
    Raises DataError where the data set is unknown, cannot be had, or is not what it should be.
    """
    name = str(name)
    if name == "supersense" or name.endswith(".csv"):
        _check_known(f"variant of {name}", variant, ["default"])
        return _supersense() if name == "supersense" else _own_csv(Path(name))
    _check_known("data set", name, ["supersense", *sources.SOURCES, "*.csv"])
    source = sources.SOURCES[name]
    _check_known(f"variant of {name}", variant, source.variants)
    folder = sources.fetch(name, sources.search_path(root))
    try:
        rows = sources.read(name, folder, variant)
        sizes = [int((rows["split"] == split).sum()) for split in SPLITS]
        expected = list(source.sizes.get(variant, paper.SIZES[name]))
        if sizes != expected:
            raise DataError(f"{folder} holds {sizes} texts, not {expected}")
        title = name if variant == "default" else f"{name}-{variant}"
        about = {"citation": source.citation, "licence": source.licence}
        ordinal = bool(source.classes)
        dataset = _assemble(title, rows, source.classes, ordinal=ordinal, **about)
    except (DataError, OSError, ValueError, csv.Error) as error:
        advice = f"move {folder} away and run: python -m lclkit fetch {name}"
        message = f"{name} is damaged or another version: {error}; {advice}"
        raise DataError(message) from None
    hashes = {file: pooch.file_hash(folder / file) for file in source.files}
    unknown = [file for file in hashes if hashes[file] != source.files[file]["sha256"]]
    if unknown:
        warnings.warn(
            f"{name}: {', '.join(unknown)} in {folder} has an unknown hash, though the right "
            "number of texts; results may differ from the paper's data",
            stacklevel=2,
        )
    return dataset


def _check_known(what: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise DataError(f"unknown {what} {name!r}; known: {', '.join(known)}")


def _assemble(name: str, rows: pd.DataFrame, classes: Iterable[str] = (), **about) -> Dataset:
    """A data set of rows with a split, a text and a class name. classes: sorted if not given."""
    classes = tuple(classes or sorted(set(rows.label)))
    rows = rows.assign(label=rows.label.map(classes.index))
    frames = {}
    for split in SPLITS:
        of_split = rows[rows["split"] == split].reset_index(drop=True)
        frames[split] = of_split[["text", "label"]]
    return Dataset(name, classes, **frames, **about)


def _own_csv(path: Path) -> Dataset:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = pd.DataFrame(csv.DictReader(file, strict=True)).fillna("")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a UTF-8 csv file: {error}") from None
    below = "(without the header)"
    if None in rows:  # what DictReader calls the column of fields that have no header
        row = (rows[None] != "").argmax() + 1
        raise DataError(f"{path}: row {row} {below} has too many fields; put texts in quotes")
    for column in ("text", "label"):
        if column not in rows:
            raise DataError(f"{path} has no rows or no column {column!r}; it needs text and label")
        empty = rows[column].str.strip() == ""
        if empty.any():
            raise DataError(f"{path}: row {empty.argmax() + 1} {below} has no {column}")
    repeats = rows.text.duplicated().sum()
    if repeats:  # they could be in train and test
        warnings.warn(f"{path}: {repeats} repeated texts are left out", stacklevel=3)
    return _split(path.stem, rows.drop_duplicates("text"), held_out=0.1)


def _split(name: str, rows: pd.DataFrame, held_out: float, **about: str) -> Dataset:
    """Seeded, stratified splits; of each class at least one text goes to valid and one to test.

    held_out: the share of valid, and of test.
    """
    shuffled = rows.sample(frac=1, random_state=0)
    by_class = shuffled.groupby("label").text
    sizes = by_class.size()
    if len(sizes) < 2:
        raise DataError(f"{name}: at least two classes are needed, found {len(sizes)}")
    if sizes.min() < 3:
        few = f"class {sizes.idxmin()!r} has {sizes.min()} text(s)"
        raise DataError(f"{name}: {few}; at least 3 are needed, one for each split")
    each = (held_out * by_class.transform("size")).round().clip(lower=1)
    number = by_class.cumcount()
    split = np.select([number < each, number < 2 * each], ["valid", "test"], "train")
    return _assemble(name, shuffled.assign(split=split).sort_index(), **about)


def _supersense() -> Dataset:
    """Definitions of WordNet's noun synsets, labelled with their lexicographer file; split 4:1:1.

    Left out: `noun.Tops`, and definitions that occur twice (they could leak into test).
    """
    wordnet = sources.wordnet()
    names = dict(line.split("\t")[:2] for line in wordnet.open("lexnames"))
    rows = []
    for line in wordnet.open("data.noun"):
        if not line.startswith(" "):  # the licence
            numbers, gloss = line.split(" | ", 1)
            definition = gloss.split('; "')[0].split(' "')[0]  # without examples
            label = names[numbers.split(" ")[1]].removeprefix("noun.")
            rows.append((definition.strip(" ;\n"), label))
    frame = pd.DataFrame(rows, columns=["text", "label"])
    frame = frame[(frame.label != "Tops") & (frame.text != "")]
    return _split(
        "supersense",
        frame.drop_duplicates("text", keep=False),
        held_out=1 / 6,
        licence="WordNet licence (free, with attribution)",
        citation="G. A. Miller (1995), WordNet: a lexical database for English, CACM; the task: "
        "M. Ciaramita and M. Johnson (2003), Supersense tagging of unknown nouns in WordNet, EMNLP",
    )
