"""The data sets: load, subset, sample, hash."""

import csv
import hashlib
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pooch

from lclkit import paper, sources
from lclkit.sources import DataError

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, repr=False)
class Dataset:
    """Texts and labels in three splits; DataError where a text, its label or a class is no good.

    classes: names, in the order of the labels.
    train, valid, test: frames with the columns `text` (str) and `label` (int index into `classes`).
    """

    name: str
    classes: tuple[str, ...]
    train: pd.DataFrame
    valid: pd.DataFrame
    test: pd.DataFrame
    citation: str = "none given"
    licence: str = "none given"

    def __post_init__(self) -> None:
        labels = range(len(self.classes))
        for split, frame in self._frames().items():
            if frame.empty:
                raise DataError(f"{self.name}, {split}: no text")
            faulty = frame[(frame.text.str.strip() == "") | ~frame.label.isin(labels)]
            if len(faulty):
                expected = f"expected a text, and a label from 0 to {len(labels) - 1}; found"
                raise DataError(f"{self.name}, {split}: {expected} {faulty.iloc[0].to_dict()}")
        untrained = sorted(set(labels) - set(self.train.label))
        if untrained:
            raise DataError(f"{self.name}: no training text of {self.classes[untrained[0]]}")

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
            for row in frame.itertuples():
                digest.update(f"\0{split}\0{row.label}\0{row.text}".encode())
        return digest.hexdigest()

    def subset(self, classes: str | Collection[str]) -> "Dataset":
        """Only some classes: their names, or the name of a subset of section 5.3 ("4-hard-a").

        Labels are renumbered; the classes keep their order. Raises DataError for an unknown name.
        """
        title = ""
        if isinstance(classes, str):
            _check_known("class subset", classes, paper.SUBSETS)
            title, classes = classes, paper.SUBSETS[classes]
        for name in classes:
            _check_known(f"class of {self.name}", name, self.classes)
        if len(set(classes)) < 2:
            raise DataError("a subset needs at least two classes")
        names = tuple(name for name in self.classes if name in classes)
        labels = {self.classes.index(name): label for label, name in enumerate(names)}
        frames = {}
        for split, frame in self._frames().items():
            kept = frame[frame.label.isin(labels)].reset_index(drop=True)
            frames[split] = kept.assign(label=kept.label.map(labels))
        return replace(self, name=f"{self.name}-{title or len(names)}", classes=names, **frames)

    def sample(self, per_class: int) -> "Dataset":
        """At most `per_class` training texts of each class; of valid and test a quarter as many."""
        frames = {}
        for split, frame in self._frames().items():
            size = per_class if split == "train" else per_class // 4
            drawn = frame.sample(frac=1, random_state=0).groupby("label").head(size)
            frames[split] = drawn.sort_index().reset_index(drop=True)
        return replace(self, **frames)


def load(name: str | Path, root: str | Path | None = None, variant: str = "default") -> Dataset:
    """Load a data set by name, or one's own `.csv` file with the columns `text` and `label`.

    name: "supersense", one of sources.toml, or a path; a file is split 80/10/10, with a fixed seed.
    root: where raw files are looked for first; then in $LCLKIT_DATA and the user's cache; only then
    are they fetched. variant: "default" (sensible; all that built-in and own data have), "released"
    (what the authors' code does), "paper" (what the paper says), or another of sources.toml.
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
    about = {key: vars(source)[key] for key in ("classes", "citation", "licence")}
    try:
        rows = sources.read(name, folder, variant)
        sizes = [int((rows["split"] == split).sum()) for split in SPLITS]
        expected = list(source.sizes.get(variant, paper.SIZES[name]))
        if sizes != expected:
            raise DataError(f"{folder} holds {sizes} texts, not {expected}")
        title = name if variant == "default" else f"{name}-{variant}"
        dataset = _assemble(title, rows, **about)
    except (DataError, OSError, ValueError, csv.Error) as error:
        message = f"{name} is damaged or another version: {error}; move {folder} away and run:"
        raise DataError(f"{message} python -m lclkit fetch {name}") from None
    known = {file: origin["sha256"] for file, origin in source.files.items()}
    unknown = [file for file in known if pooch.file_hash(folder / file) != known[file]]
    if unknown:
        doubt = "has an unknown hash; results may differ from those with the paper's data"
        warnings.warn(f"{name}: {', '.join(unknown)} in {folder} {doubt}", stacklevel=2)
    return dataset


def own_files(name: str) -> list[Path]:
    """Stand-in."""
    path = Path(name).expanduser()
    if path.name.lower().endswith(".csv"):
        return [path]
    three = [path / f"{split}.csv" for split in SPLITS]
    return three if name not in sources.SOURCES and all(file.is_file() for file in three) else []


def _check_known(what: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise DataError(f"unknown {what} {name!r}; known: {', '.join(known)}")


def _assemble(name: str, rows: pd.DataFrame, classes: Sequence[str] = (), **about) -> Dataset:
    """A data set of rows with a split, a text and a class name. classes: if they have an order."""
    names = tuple(classes or sorted(set(rows.label)))
    rows = rows.assign(label=rows.label.map(names.index)).groupby("split")[["text", "label"]]
    frames = {split: rows.get_group(split).reset_index(drop=True) for split in SPLITS}
    return Dataset(name, names, **frames, **about)


def _own_csv(path: Path) -> Dataset:
    options = {"dtype": str, "keep_default_na": False, "index_col": False, "encoding": "utf-8-sig"}
    try:
        with warnings.catch_warnings(action="error"):  # of rows with more fields than the header
            rows = pd.read_csv(path, **options)[["text", "label"]].fillna("")
    except (OSError, ValueError, LookupError, pd.errors.ParserWarning) as error:
        reason = f"{' '.join(str(error).split())} (it needs text and label; commas need quotes)"
        raise DataError(f"{path} cannot be read as a UTF-8 csv file: {reason}") from None
    empty = (rows.map(str.strip) == "").any(axis=1)
    if empty.any():
        raise DataError(f"{path}: row {empty.argmax() + 1} under the header lacks text or label")
    repeats = rows.text.duplicated()
    if repeats.any():  # they could be in train and test
        warnings.warn(f"{path}: {repeats.sum()} repeated texts are left out", stacklevel=3)
    return _split(path.stem, rows[~repeats], held_out=0.1)


def _split(name: str, rows: pd.DataFrame, held_out: float, **about: str) -> Dataset:
    """Stratified, with a fixed seed. held_out: the share of valid and of test, at least 1 text."""
    shuffled = rows.sample(frac=1, random_state=0)
    by_class = shuffled.groupby("label").text
    sizes = by_class.size().nsmallest(3).to_dict()
    if len(sizes) < 2 or min(sizes.values()) < 3:
        raise DataError(f"{name}: expected two classes or more, of 3 texts or more; found {sizes}")
    each = (held_out * by_class.transform("size")).round().clip(lower=1)
    split = (by_class.cumcount() // each).map({0: "valid", 1: "test"}).fillna("train")
    return _assemble(name, shuffled.assign(split=split).sort_index(), **about)


def _supersense() -> Dataset:
    """Definitions of WordNet's nouns, labelled with their lexicographer file; split 4:1:1."""
    names = dict(line.split("\t")[:2] for line in sources.wordnet().open("lexnames"))
    rows = []
    for line in sources.wordnet().open("data.noun"):
        if not line.startswith(" "):  # the licence
            numbers, gloss = line.split(" | ", 1)
            definition = gloss.split(' "')[0].strip(" ;\n")  # without examples
            rows.append((definition, names[numbers.split(" ")[1]].removeprefix("noun.")))
    frame = pd.DataFrame(rows, columns=["text", "label"]).query("label != 'Tops' and text != ''")
    frame = frame.drop_duplicates("text", keep=False)  # they could be in train and test
    return _split("supersense", frame, held_out=1 / 6, **sources.SUPERSENSE)
