"""The data sets: load, subset, sample, hash."""

import csv
import hashlib
import unicodedata
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pooch

from lclkit import files, paper, sources
from lclkit.sources import DataError

SPLITS = ("train", "valid", "test")
NO_WIDTH = {code: None for code in range(2**16) if unicodedata.category(chr(code)) in ("Cc", "Cf")}
MISSING = ["", *"nan NaN NAN None null Null NULL NA N/A n/a #N/A <NA> NaT".split()]


@dataclass(frozen=True, repr=False)
class Dataset:
    """Texts and labels in three splits; DataError where a text, its label or a class is no good.

    classes: two names or more, in the order of the labels. train, valid, test: frames with the
    columns `text` (str) and `label` (int index into `classes`).
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
        if len({_plain(name) for name in self.classes} - {""}) < max(2, len(labels)):
            raise DataError(f"{self.name}: classes look alike, or are fewer than 2: {self.classes}")
        for split, frame in self._frames().items():
            rows = pd.DataFrame(frame).reindex(columns=["text", "label"])
            faulty = rows[(rows.text.map(_plain) == "") | ~rows.label.isin(labels)]
            if rows.empty or len(faulty):
                expected = f"expected texts, and labels from 0 to {len(labels) - 1}; found row"
                raise DataError(f"{self.name}, {split}: {expected} {faulty[:1].to_dict('index')}")
            object.__setattr__(self, split, rows.reset_index(drop=True).astype({"label": "int64"}))
        for label in sorted(set(labels) - set(self.train.label)):
            raise DataError(f"{self.name}: no training text of {self.classes[label]}")

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
        """Only some classes: their names, or the name of a subset of section 5.3 ("4-hard-a", 16).

        Labels are renumbered; the classes keep their order. Raises DataError for an unknown name.
        """
        title = str(classes) if isinstance(classes, str | int) else ""
        if title:
            _check_known("class subset", title, paper.SUBSETS)
            classes = paper.SUBSETS[title]
        for name in classes:
            _check_known(f"class of {self.name}", name, self.classes)
        names = tuple(name for name in self.classes if name in classes)
        labels = {self.classes.index(name): label for label, name in enumerate(names)}
        frames = {}
        for split, frame in self._frames().items():
            frames[split] = frame.assign(label=frame.label.map(labels)).dropna()
        return replace(self, name=f"{self.name}-{title or len(names)}", classes=names, **frames)

    def sample(self, per_class: int) -> "Dataset":
        """At most `per_class` training texts of each class; of valid and test a quarter as many."""
        frames = {}
        for split, frame in self._frames().items():
            size = per_class if split == "train" else per_class // 4
            drawn = frame.sample(frac=1, random_state=0).groupby("label").head(max(size, 0))
            frames[split] = drawn.sort_index()
        return replace(self, **frames)


def load(name: str | Path, root: str | Path | None = None, variant: str = "default") -> Dataset:
    """Load a data set by name, or one's own, from csv files with the columns `text` and `label`.

    name: "supersense", one of sources.toml, or a path: of a `.csv` file, split 80/10/10 by a fixed
    seed, or of a folder with train.csv, valid.csv and test.csv. root: looked into first, then
    $LCLKIT_DATA and the user's cache. variant: "default", "released" (what the authors' code does),
    "paper" (what it says), or of sources.toml. Raises DataError; OSError for what cannot be opened.
    """
    name = str(name)
    paths = own_files(name)
    if name == "supersense" or paths:
        _check_known(f"variant of {name}", variant, ["default"])
        return _own(paths) if paths else _supersense()
    own = "or a .csv file, or a folder with train.csv, valid.csv and test.csv"
    _check_known("data set", name, ["supersense", *sources.SOURCES, own])
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
        dataset = _assemble(f"{name}-{variant}".removesuffix("-default"), rows, **about)
    except (DataError, OSError, ValueError, csv.Error) as error:
        message = f"{name} is damaged or another version: {error}; move {folder} away and run:"
        raise DataError(f"{message} python -m lclkit fetch {name}") from None
    hashes = {file: pooch.file_hash(folder / file) for file in source.files}
    unknown = [file for file in hashes if hashes[file] != source.files[file]["sha256"]]
    if unknown:
        doubt = "has an unknown hash; results may differ from those with the paper's data"
        warnings.warn(f"{name}: {', '.join(unknown)} in {folder} {doubt}", stacklevel=2)
    return dataset


def own_files(name: str) -> list[Path]:
    """The csv files of one's own that a name stands for in `load`; none for a built-in data set."""
    path = Path(name).expanduser()
    if path.name.lower().endswith(".csv"):
        return [path]
    three = [path / f"{split}.csv" for split in SPLITS]
    built_in = name in ("supersense", *sources.SOURCES)
    return three if all(map(Path.is_file, three)) and not built_in else []


def read_csv(path: Path, labelled: bool = True) -> list[tuple[str, str]]:
    """Text and label of each row of a csv file of one's own; DataError names the line at fault."""
    csv.field_size_limit(2**31 - 1)  # texts may be long
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True)
    reader = csv.reader(map(bytes.decode, lines), strict=True, skipinitialspace=True)
    rows = []
    try:
        header = [_plain(name) for name in next(filter(any, reader), [])]
        if header.count("text") != 1 or labelled and header.count("label") != 1:
            expected = "one column text and one label" if labelled else "one column text"
            raise ValueError(f"the first line must name {expected}; it is {header!r:.80}")
        # Blank lines are passed over; but one that has "" is a missing text, where texts are all.
        for fields in filter(any if labelled else len, reader):
            row = dict(zip(header, fields, strict=False))
            label = " ".join(unicodedata.normalize("NFC", row.get("label", "")).split())
            unfit = len(fields) > len(header) or not _plain(row.get("text"))
            if unfit or labelled and label in MISSING:
                wrong = "no text, no label or one that means none" if labelled else "no text"
                raise ValueError(f"{wrong}, or too many fields in {fields!r:.80}")
            rows.append((row["text"].strip(), label))
    except (ValueError, csv.Error) as error:
        form = 'UTF-8, commas between, quotes around texts with commas, "" for "'
        raise DataError(f"{path}, near line {reader.line_num}: {error}; expected {form}") from None
    return rows


def _plain(text: object) -> str:
    """The same for texts that only look different; "" for what cannot be read at all."""
    if not isinstance(text, str) or "\0" in text or text != text.encode(errors="ignore").decode():
        return ""  # half a character, which no tokenizer takes
    seen = unicodedata.normalize("NFKC", " ".join(text.split()).translate(NO_WIDTH))
    return " ".join(seen.casefold().split())


def _check_known(what: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise DataError(f"unknown {what} {name!r}; known: {', '.join(known)}")


def _assemble(name: str, rows: pd.DataFrame, classes: Sequence[str] = (), **about) -> Dataset:
    """A data set of rows with a split, a text and a class name. classes: if they have an order."""
    names = tuple(classes or sorted(set(rows.label)))
    rows = rows.assign(label=rows.label.map(names.index))
    return Dataset(name, names, *(rows[rows["split"] == split] for split in SPLITS), **about)


def _own(paths: Sequence[Path]) -> Dataset:
    """One file, to be split, or three, of which the last, the test, stays as it is."""
    rows = []
    # The test first: of a text that comes again its row is the one that stays.
    for split, path in list(zip(SPLITS, paths, strict=False))[::-1]:
        rows += [(split, text, label) for text, label in read_csv(path)]
    table = pd.DataFrame(rows, columns=["split", "text", "label"])
    keys = table.text.map(_plain)
    torn = table.groupby([keys, "split"]).label.transform("nunique") > 1
    repeats = (torn | keys.duplicated()) & (table["split"] != "test")
    if repeats.any():
        lost = f"{repeats.sum()} repeated texts left out, {(torn & repeats).sum()} with two labels"
        warnings.warn(f"{paths[0].parent if paths[1:] else paths[0]}: {lost}", stacklevel=3)
    if len(paths) == 1:
        return _split(files.safe_name(paths[0].stem), table[~repeats], held_out=0.1)
    return _assemble(files.safe_name(paths[0].resolve().parent.name), table[~repeats])


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
    parts = r'^\d+ (?P<label>\d+) .*? \| (?P<text>.*?)(?: "|\n)'  # without examples
    rows = pd.Series(list(sources.wordnet().open("data.noun"))).str.extract(parts).dropna()
    rows = rows.assign(text=rows.text.str.strip(" ;"), label=rows.label.map(names).str[5:])
    rows = rows.query("label != 'Tops' and text != ''").drop_duplicates("text", keep=False)
    return _split("supersense", rows, held_out=1 / 6, **sources.SUPERSENSE)
