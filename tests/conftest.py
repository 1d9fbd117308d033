"""What several test files share: a tiny encoder, made texts, an own cache. No test reaches the internet."""

import itertools
import os
import string
from pathlib import Path

import pandas as pd
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"      # before transformers reads it

from lclkit import data

TOPICS = {"food": ("bread", "soup", "cheese", "dinner"),
          "travel": ("train", "road", "ship", "journey"),
          "weather": ("rain", "storm", "cloud", "wind")}
ADJECTIVES = ("big", "small", "good", "bad", "fast", "quiet")
ENDINGS = ("", " again today", " while we were at home all evening")
EMOTIONS = ("joyful", "afraid", "terrified", "anxious", "sad", "apprehensive")      # four of them are "4-hard-a"
ED_HEADER = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags"


@pytest.fixture(scope="session")
def tiny_electra(tmp_path_factory) -> str:
    """A folder with an untrained three-layer ELECTRA whose embeddings are narrower than its layers."""
    import torch
    from transformers import BertTokenizer, ElectraConfig, ElectraModel

    folder = tmp_path_factory.mktemp("tiny_electra")
    words = {word for some in (*TOPICS.values(), ADJECTIVES, ENDINGS) for text in some for word in text.split()}
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "the", "was", *sorted(words),
              *string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    pieces = list(dict.fromkeys(pieces))
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    torch.set_num_threads(1)            # tiny networks run faster so, and leave cores to others
    torch.manual_seed(0)
    config = ElectraConfig(vocab_size=len(pieces), embedding_size=24, hidden_size=32, num_hidden_layers=3,
                           num_attention_heads=2, intermediate_size=48, max_position_embeddings=64,
                           initializer_range=.05)
    ElectraModel(config).save_pretrained(folder)
    BertTokenizer(str(vocabulary)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def made_dataset() -> data.Dataset:
    """Made sentences about three topics, 32 / 9 / 9, no two alike; the classes are of uneven size."""
    frames = {"train": [], "valid": [], "test": []}
    for label, (nouns, sizes) in enumerate(zip(TOPICS.values(), ((16, 4, 4), (10, 3, 3), (6, 2, 2)), strict=True)):
        texts = (f"The {noun} was {adjective}{ENDINGS[i % 3]}."
                 for i, (adjective, noun) in enumerate(itertools.product(ADJECTIVES, nouns)))
        for split, size in zip(frames, sizes, strict=True):
            frames[split] += [(text, label) for text in itertools.islice(texts, size)]
    return data.Dataset("made", tuple(TOPICS), **{split: pd.DataFrame(rows, columns=["text", "label"])
                                                  for split, rows in frames.items()})


@pytest.fixture(scope="session")
def supersense() -> data.Dataset:
    return data.load("supersense")


@pytest.fixture(scope="session")
def made_ed():
    """A function that writes made raw files in the official layout to a folder.

    It returns what should be read back: split -> (text, emotion) of each conversation.
    """
    def conversation(name: str, emotion: str, prompt: str, extra: str) -> list[str]:
        return [f"{name},{turn},{emotion},{prompt},{turn % 2},Really_comma_ turn {turn}?,5|5|5_2|2|5,{extra}"
                for turn in range(1, 4)]

    def write(folder: Path) -> dict[str, list[tuple[str, str]]]:
        folder.mkdir(parents=True, exist_ok=True)
        expected = {}
        for split, each in (("train", 4), ("valid", 2), ("test", 2)):
            lines, expected[split] = [ED_HEADER], []
            for i, (n, emotion) in enumerate(itertools.product(range(each), EMOTIONS)):
                quote = ('"', "", ' " ')[i % 3]
                text = f"{quote}In {split}, on day {n}, I felt {emotion}{quote * (i % 2)}, as one does."
                lines += conversation(f"hit:{i}_conv:{2 * i}", emotion, text.replace(",", "_comma_"),
                                      "" if split == "train" else ',"made,extra fields')
                expected[split].append((text.strip(), emotion))
            (folder / f"{split}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
        return expected

    return write


@pytest.fixture
def own_cache(tmp_path, monkeypatch) -> Path:
    """An empty user cache, and no $LCLKIT_DATA."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LCLKIT_DATA", raising=False)
    assert tmp_path in data.cache_folder().parents
    return data.cache_folder()


@pytest.fixture
def real_data() -> Path:
    """The folder of the real data sets; the test is skipped where there is none."""
    folder = os.environ.get("LCLKIT_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set LCLKIT_DATA to the folder that holds the real data sets")
    return Path(folder)
