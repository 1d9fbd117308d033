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
    citation: str = ""
    licence: str = ""

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
        title = classes if isinstance(classes, str) else None
        if title is not None:
            if title not in paper.SUBSETS:
                known = ", ".join(paper.SUBSETS)
                raise DataError(f"unknown class subset {title!r}; known: {known}")
            classes = paper.SUBSETS[title]
        chosen = set(classes)
        unknown = sorted(chosen - set(self.classes))
        if unknown:
            known = ", ".join(self.classes)
            raise DataError(f"{self.name} has no class {unknown[0]!r}; its classes: {known}")
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
    source = sources.SOURCES.get(name)
    if source is None and name != "supersense" and not name.endswith(".csv"):
        known = ", ".join(sources.SOURCES)
        raise DataError(f"unknown data set {name!r}; known: supersense, {known}, or a .csv file")
    variants = source.variants if source else ["default"]
    if variant not in variants:
        raise DataError(f"{name} has no variant {variant!r}; it has: {', '.join(variants)}")
    if name == "supersense":
        return _supersense()
    if source is None:
        return _own_csv(Path(name))
    folder = sources.fetch(name, sources.search_path(root))
    try:
        dataset = _from_raw_files(name, folder, variant)
    except (DataError, OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"{name} is damaged or another version: {error}; move {folder} away and run: "
            f"python -m lclkit fetch {name}"
        ) from None
    hashes = {file: pooch.file_hash(folder / file) for file in source.files}
    unknown = [file for file in hashes if hashes[file] != source.files[file]["sha256"]]
    if unknown:
        warnings.warn(
            f"{name}: {', '.join(unknown)} in {folder} has an unknown hash, though the right "
            "number of texts; results may differ from the paper's data",
            stacklevel=2,
        )
    return dataset


def _from_raw_files(name: str, folder: Path, variant: str) -> Dataset:
    source = sources.SOURCES[name]
    rows = sources.read(name, folder, variant)
    sizes = tuple(int((rows["split"] == split).sum()) for split in SPLITS)
    expected = tuple(source.sizes.get(variant, paper.SIZES[name]))
    if sizes != expected:
        raise DataError(f"{folder} holds {sizes} texts, not {expected}")
    return _assemble(
        name if variant == "default" else f"{name}-{variant}",
        rows,
        classes=source.classes,
        ordinal=bool(source.classes),
        citation=source.citation,
        licence=source.licence,
    )


def _assemble(name: str, rows: pd.DataFrame, classes: Iterable[str] = (), **about) -> Dataset:
    """A data set of rows with a split, a text and a class name. classes: sorted if not given."""
    train = rows[rows["split"] == "train"]
    classes = tuple(classes or sorted(set(train.label)))
    strange = sorted(set(rows.label) - set(classes))
    if strange:
        raise DataError(f"training has no text of class {strange[0]!r}")
    rows = rows.assign(label=rows.label.map(classes.index))
    frames = {
        split: rows.loc[rows["split"] == split, ["text", "label"]].reset_index(drop=True)
        for split in SPLITS
    }
    return Dataset(name, classes, **frames, **about)


def _own_csv(path: Path) -> Dataset:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = pd.DataFrame(csv.DictReader(file, strict=True)).fillna("")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a UTF-8 csv file: {error}") from None
    uncounted = "(without the header)"
    if None in rows:  # what DictReader calls the column of fields that have no header
        row = (rows[None] != "").argmax() + 1
        advice = "put a text with commas in quotes"
        raise DataError(f"{path}: row {row} {uncounted} has too many fields; {advice}")
    for column in ("text", "label"):
        if column not in rows:
            advice = "its first line should read text,label"
            raise DataError(f"{path} has no rows or no column {column!r}; {advice}")
        empty = rows[column].str.strip() == ""
        if empty.any():
            raise DataError(f"{path}: row {empty.argmax() + 1} {uncounted} has no {column}")
    repeats = rows.text.duplicated().sum()
    if repeats:
        message = f"{path}: {repeats} repeated texts are left out; they could be in train and test"
        warnings.warn(message, stacklevel=3)
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
        raise DataError(
            f"{name}: class {sizes.idxmin()!r} has {sizes.min()} text(s); at least 3 are needed, "
            "one for each of train, valid and test"
        )
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
