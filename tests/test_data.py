import re
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from conftest import VARIANTS, changed, load_quietly, rows

from lclkit import data, paper, sources

ED = "empatheticdialogues"
NAMES = list(sources.SOURCES)


def frame(*rows):
    return pd.DataFrame(rows, columns=["text", "label"])


def small(classes=("left", "right"), **splits):
    rows = {
        "train": [("go this way", 0), ("go that way", 1)],
        "valid": [("here", 0)],
        "test": [("there", 1)],
    } | splits
    return data.Dataset("small", classes, *(frame(*rows[split]) for split in data.SPLITS))


@pytest.mark.parametrize(
    "splits, message",
    [
        ({"valid": [("here", 2)]}, "valid: expected .* from 0 to 1; found .*'here', 'label': 2"),
        ({"test": [("here", 0), ("there", -1)]}, "test: expected .*; found .*'there', 'label': -1"),
        ({"valid": [("here", 0), (" \n", 0)]}, "valid: expected a text.*; found .*'label': 0"),
        ({"test": []}, "test: no text"),
        ({"train": [("go this way", 0)]}, "small: no training text of right"),
    ],
)
def test_dataset_refuses(splits, message):
    with pytest.raises(data.DataError, match=message):
        small(**splits)


def test_repr_gives_sizes(made_dataset):
    assert repr(made_dataset) == "made: 3 classes; 32 / 9 / 9 texts (train / valid / test)"


def test_hash_is_stable():
    assert (
        small().hash
        == small().hash
        == "00f7197b743ed4714a963630d1766a90cc64ceb087c83fc7d9f53b32c263490e"
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"valid": [("here!", 0)]},
        {"valid": [("here", 1)]},
        {"train": [("go that way", 1), ("go this way", 0)]},
        {"classes": ("left", "straight")},
        {
            "classes": ("left", "right", "back"),
            "train": [("go this way", 0), ("go that way", 1), ("back", 2)],
        },
        {"valid": [("there", 1)], "test": [("here", 0)]},
    ],
)
def test_hash_changes_with_content(changed):
    assert small(**changed).hash != small().hash


def test_hash_ignores_the_name_and_the_index():
    other = replace(small(), name="other", train=small().train.set_axis([7, 3]))
    assert other.hash == small().hash


def test_subset_by_names_keeps_order_and_remaps(made_dataset):
    some = made_dataset.subset(["weather", "food"])
    assert (some.name, some.classes) == ("made-2", ("food", "weather"))
    whole = rows(made_dataset)
    assert rows(some) == {
        split: [row for row in whole[split] if row[1] != "travel"] for split in data.SPLITS
    }
    for split in data.SPLITS:
        labels = getattr(some, split).label
        assert labels.dtype == int and set(labels) == {0, 1}
        assert list(labels.index) == list(range(len(labels)))


@pytest.mark.parametrize(
    "classes, message",
    [
        ("4-hard-z", "unknown class subset '4-hard-z'; known: 16, 8, 4-easy"),
        ("4-easy", "unknown class of made 'afraid'; known: food, travel, weather"),
        (["food", "cars"], "unknown class of made 'cars'"),
        (["food"], "at least two classes"),
        ([], "at least two classes"),
    ],
)
def test_subset_refuses(made_dataset, classes, message):
    with pytest.raises(data.DataError, match=message):
        made_dataset.subset(classes)


@pytest.mark.parametrize("variant", VARIANTS)
def test_subset_of_the_paper(made, tmp_path, variant):
    expected = made(ED)
    whole = data.load(ED, tmp_path / "root", variant)
    some = whole.subset("4-hard-a")
    assert some.name == f"{whole.name}-4-hard-a"
    assert (
        some.classes
        == paper.SUBSETS["4-hard-a"]
        == ("afraid", "anxious", "apprehensive", "terrified")
    )
    kept = {
        split: [row for row in texts if row[1] in some.classes]
        for split, texts in rows(whole).items()
    }
    assert rows(some) == kept
    assert {split: len(texts) for split, texts in kept.items()} == {
        "train": 16,
        "valid": 8,
        "test": 8,
    }
    assert (kept["train"] == [row for row in expected["train"] if row[1] in some.classes]) == (
        variant != "paper"
    )


def test_sample(made_dataset):
    some = made_dataset.sample(8)
    assert Counter(some.train.label) == {0: 8, 1: 8, 2: 6}
    assert Counter(some.valid.label) == Counter(some.test.label) == {0: 2, 1: 2, 2: 2}
    assert made_dataset.sample(8).hash == some.hash
    whole = rows(made_dataset)
    for split, kept in rows(some).items():
        assert [row for row in whole[split] if row in set(kept)] == kept
    assert rows(some)["train"][:8] != whole["train"][:8]
    assert made_dataset.sample(1000).hash == made_dataset.hash


@pytest.mark.parametrize("name", NAMES)
def test_raw_files_are_parsed(made, tmp_path, name):
    expected = made(name)
    dataset = load_quietly(name, tmp_path / "root")
    assert rows(dataset) == expected
    assert dataset.name == name and dataset.citation and dataset.licence
    if not name.startswith("sst"):
        assert dataset.classes == tuple(sorted({label for _, label in expected["train"]}))
    for variant in list(sources.SOURCES[name].variants)[1:]:
        named = load_quietly(name, tmp_path / "root", variant=variant)
        assert (named.name, named.classes) == (f"{name}-{variant}", dataset.classes)


def test_classes_of_sst_are_in_order(made, tmp_path):
    made("sst5"), made("sst2")
    assert data.load("sst5", tmp_path / "root").classes == (
        "very negative",
        "negative",
        "neutral",
        "positive",
        "very positive",
    )
    assert data.load("sst2", tmp_path / "root").classes == ("negative", "positive")


@pytest.mark.parametrize(
    "name, settings",
    [
        ("isear", (3e-5, 0.5, 0.3)),
        ("goemotions", (2e-5, 0.1, 0.3)),
        ("sst5", (2e-5, 0.5, 0.1)),
        ("emoint", (2e-5, 0.5, 0.3)),
    ],
)
def test_settings_are_those_of_every_variant(made, tmp_path, name, settings):
    made(name)
    for variant in sources.SOURCES[name].variants:
        found = paper.settings(data.load(name, tmp_path / "root", variant).name)
        assert tuple(found[key] for key in ("lr", "alpha", "temperature")) == settings


@pytest.mark.parametrize("name", [*NAMES, "supersense", "mine.csv"])
def test_unknown_variant(name):
    known = "default, released, paper" if name in NAMES else "default"
    more = ", stratified" if name == "isear" else ""
    message = f"^unknown variant of {name} 'best'; known: {known}{more}$"
    with pytest.raises(data.DataError, match=message):
        data.load(name, variant="best")


def test_right_sizes_but_an_unknown_hash(training, tmp_path):
    name, file = training
    before = data.load(name, tmp_path / "root")
    file.write_bytes(file.read_bytes().replace(b"train", b"brain").replace(b"years", b"weeks"))
    with pytest.warns(
        UserWarning, match=rf"{name}: {file.name} in .* has an unknown hash"
    ) as caught:
        after = data.load(name, tmp_path / "root")
    assert len(caught) == 1 and Path(caught[0].filename).name == "test_data.py"
    assert after.hash != before.hash


def test_windows_line_ends(training, tmp_path):
    name, file = training
    before = data.load(name, tmp_path / "root")
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.warns(UserWarning, match="unknown hash"):
        assert data.load(name, tmp_path / "root").hash == before.hash


def test_wrong_sizes(training, tmp_path, monkeypatch):
    name, file = training
    source = sources.SOURCES[name]
    train, valid, test = source.sizes["default"]
    sizes = {"default": [train, valid, test + 1]}
    monkeypatch.setitem(sources.SOURCES, name, changed(source, sizes=sizes))
    message = rf"\[{train}, {valid}, {test}\] texts, not .* {test + 1}\]"
    with pytest.raises(data.DataError, match=message):
        data.load(name, tmp_path / "root")


def test_unknown_data_set():
    with pytest.raises(
        data.DataError, match="unknown data set 'mnist'; known: supersense, empatheticdialogues"
    ):
        data.load("mnist")


@pytest.fixture
def own_csv(tmp_path):
    def write(content: bytes):
        (tmp_path / "mine.csv").write_bytes(content)
        return tmp_path / "mine.csv"

    return write


def lines(*sizes):
    """A made csv file with so many texts of class a, b, c ..."""
    return "text,label\n" + "".join(
        f'"the {label}, number {i}",{label}\n'
        for label, n in zip("abc", sizes, strict=False)
        for i in range(n)
    )


def test_own_csv_is_split(own_csv):
    path = own_csv(lines(30, 21, 4).encode())
    dataset = data.load(path)
    assert (dataset.name, dataset.classes) == ("mine", ("a", "b", "c"))
    assert Counter(dataset.valid.label) == Counter(dataset.test.label) == {0: 3, 1: 2, 2: 1}
    assert Counter(dataset.train.label) == {0: 24, 1: 17, 2: 2}
    found = [row for some in rows(dataset).values() for row in some]
    table = pd.read_csv(path)
    assert len(found) == len(set(found)) == 55 and set(found) == set(
        zip(table.text, table.label, strict=True)
    )
    assert data.load(str(path)).hash == dataset.hash
    assert [text for text, _ in rows(dataset)["valid"][:3]] not in (
        list(table.text[:3]),
        list(table.text[27:30]),
    )


def test_own_csv_texts_are_taken_literally(own_csv):
    path = own_csv(("\ufeff" + lines(4, 4) + 'NA,a\n"null, 1",b\n').encode())
    texts = [text for some in rows(data.load(path)).values() for text, _ in some]
    assert {"NA", "null, 1"} < set(texts) and len(texts) == 10


GOOD = lines(8, 8)


@pytest.mark.parametrize(
    "content, message",
    [
        (
            GOOD.replace("label", "emotion", 1).encode(),
            r"\['label'\] not in index.*it needs text and label",
        ),
        (b"text;label\none;a\ntwo;b\n", "it needs text and label"),
        (b"", "cannot be read"),
        ((GOOD + "some text,\n").encode(), "row 17 under the header lacks text or label"),
        ((GOOD + "some text\n").encode(), "row 17 under the header lacks text or label"),
        ((GOOD + " ,a\n").encode(), "row 17 under the header lacks text or label"),
        (lines(8, 8, 2).encode(), r"3 texts or more; found \{'c': 2, 'a': 8, 'b': 8\}"),
        (lines(8).encode(), r"two classes or more.*; found \{'a': 8\}"),
        (b"text,label\n", r"two classes or more.*; found \{\}"),
        (GOOD.encode() + b"caf\xe9,a\n", "cannot be read as a UTF-8 csv file"),
        (bytes(range(256)) * 20, "cannot be read as a UTF-8 csv file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "cannot be read as a UTF-8 csv file"),
        ((GOOD + '"never closed,a\n').encode(), "cannot be read as a UTF-8 csv file"),
        (
            (GOOD + "not quoted, alas,a\n").encode(),
            "Expected 2 fields in line 18, .*commas need quotes",
        ),
        (
            (GOOD + "not quoted, alas,a,\n").encode(),
            "Expected 2 fields in line 18, .*commas need quotes",
        ),
        (
            GOOD.replace('"', "").encode(),
            "cannot be read .*commas need quotes",
        ),  # no text is quoted, so every row has three fields
    ],
    ids=[
        "no label column",
        "semicolons",
        "empty",
        "empty label",
        "no label",
        "empty text",
        "small class",
        "one class",
        "header",
        "latin-1",
        "binary",
        "png",
        "open quote",
        "unquoted comma",
        "two unquoted commas",
        "all unquoted",
    ],
)
def test_own_csv_refuses(own_csv, content, message):
    path = own_csv(content)
    with pytest.raises(data.DataError, match=message) as caught:
        data.load(path)
    assert "mine" in str(caught.value) and "\n" not in str(caught.value)


def test_own_csv_that_is_missing_or_a_folder(tmp_path):
    with pytest.raises(
        data.DataError, match=r"mine\.csv (does not exist|cannot be read.*No such file)"
    ):
        data.load(tmp_path / "mine.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(data.DataError, match=r"folder\.csv"):
        data.load(tmp_path / "folder.csv")


def test_supersense(supersense):
    assert len(supersense.classes) == 25 and "Tops" not in supersense.classes
    assert tuple(len(getattr(supersense, split)) for split in data.SPLITS) == (
        54_033,
        13_510,
        13_510,
    )
    for split in data.SPLITS:
        assert set(getattr(supersense, split).label) == set(range(25))
    texts = [text for some in rows(supersense).values() for text, _ in some]
    assert len(set(texts)) == len(texts)
    assert not [text for text in texts if text != text.strip() or "\n" in text or "|" in text]
    assert (
        supersense.sample(120).hash
        == "3275e9e11138973ccacdf4960b9c424f942537543891f6be0bd129436dc95884"
    )


@pytest.mark.parametrize(
    "synset, name",
    [
        ("dog.n.01", "animal"),
        ("bread.n.01", "food"),
        ("joy.n.01", "feeling"),
        ("oak.n.02", "plant"),
        ("january.n.01", "time"),
        ("teacher.n.01", "person"),
        ("triangle.n.01", "shape"),
        ("theft.n.01", "act"),
    ],
)
def test_supersense_of_a_known_gloss(supersense, synset, name):
    definition = sources.wordnet().synset(synset).definition()
    assert [row for some in rows(supersense).values() for row in some if row[0] == definition] == [
        (definition, name)
    ]


def test_supersense_agrees_with_nltk(supersense):
    known = dict(row for some in rows(supersense).values() for row in some)
    words = "line head point run book cat river city stone music war fear money year ball key"
    words = [*words.split(), "table", "light", "field"]
    synsets = [
        synset
        for word in words
        for synset in sources.wordnet().synsets(word, "n")
        if not synset.examples()
    ]
    pairs = [
        (s.definition(), s.lexname().removeprefix("noun."))
        for s in synsets
        if '"' not in s.definition()
    ]
    assert len(pairs) > 50
    wrong = [pair for pair in pairs if known.get(pair[0], pair[1]) != pair[1]]
    absent = [pair for pair in pairs if pair[0] not in known and pair[1] != "Tops"]
    assert not wrong and len(absent) <= 2  # a definition that occurs twice is left out


real = cache(load_quietly)  # each is read once


def sizes(dataset):
    return tuple(len(getattr(dataset, split)) for split in data.SPLITS)


@pytest.mark.data
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "name, classes",
    [(ED, 32), ("goemotions", 27), ("isear", 7), ("emoint", 4), ("sst5", 5), ("sst2", 2)],
)
def test_real_sizes(real_data, name, classes, variant):
    dataset = real(name, real_data, variant)
    more = (name, variant) == ("emoint", "default")
    assert sizes(dataset) == tuple(n + more for n in paper.SIZES[name])
    assert len(dataset.classes) == classes


@pytest.mark.data
@pytest.mark.parametrize("variant", VARIANTS)
def test_real_ed(real_data, variant):
    dataset = real(ED, real_data, variant)
    assert set().union(*paper.SUBSETS.values()) < set(dataset.classes)
    found = {name: sizes(dataset.subset(name)) for name in paper.SUBSETS}
    assert found == {
        "16": (10_705, 1_509, 1_376),
        "8": (5_420, 732, 686),
        "4-easy": (2_598, 361, 328),
        "4-hard-a": (2_339, 329, 293),
        "4-hard-b": (2_360, 343, 323),
        "4-hard-c": (2_425, 302, 283),
        "4-hard-d": (2_597, 324, 312),
        "4-hard-d-joyful": (2_577, 338, 328),
    }


@pytest.mark.data
def test_real_ed_situations_are_not_utterances(real_data):
    situations, utterances = (real(ED, real_data, variant) for variant in ("default", "paper"))
    assert [
        int((getattr(situations, split).text == getattr(utterances, split).text).sum())
        for split in data.SPLITS
    ] == [4_728, 472, 355]


@pytest.mark.data
def test_real_goemotions(real_data):
    dataset, released = (
        real("goemotions", real_data, variant) for variant in ("default", "released")
    )
    assert dataset.classes == tuple(
        (real_data / "goemotions" / "emotions.txt").read_text().split()[:27]
    )
    assert [int((getattr(dataset, split).label == 16).sum()) for split in data.SPLITS] == [39, 6, 2]
    assert dataset.classes[16] == "grief" and dataset.train.text.duplicated().sum() == 114
    assert (
        (dataset.train.text != released.train.text).sum()
        == dataset.train.text.str.startswith('"').sum()
        == 546
    )
    for split, part in zip(
        data.SPLITS, ("train", "dev", "test"), strict=True
    ):  # as the authors read it
        table = pd.read_csv(
            real_data / "goemotions" / f"{part}.tsv", sep="\t", names=["text", "label", "id"]
        )
        table = table[table.label.str.fullmatch("[0-9]|1[0-9]|2[0-6]")]
        assert list(table.text.str.strip()) == list(getattr(released, split).text)
        assert list(table.label.astype(int)) == list(getattr(released, split).label)


@pytest.mark.data
def test_real_isear(real_data):
    dataset, released, stratified = (
        real("isear", real_data, variant) for variant in ("default", "released", "stratified")
    )
    assert sizes(stratified) == (4_489, 1_497, 1_497)
    texts = pd.concat([getattr(stratified, split).text for split in data.SPLITS])
    assert not texts.duplicated().any() and (texts != "[ No response.]").all()
    assert dataset.test.text.isin(dataset.train.text).sum() == 40
    assert (dataset.train.text == "[ No response.]").sum() == 42
    assert dataset.train.text.str.fullmatch(r"\[.*\]").sum() == 110
    pairs = [
        pair
        for split in data.SPLITS
        for pair in zip(getattr(dataset, split).text, getattr(released, split).text, strict=True)
    ]
    assert sum(one != other for one, other in pairs) == 4
    assert all(
        one.replace(" ", "") == other.replace(" ", "") and "\xe1" not in one for one, other in pairs
    )


@pytest.mark.data
def test_real_emoint(real_data):
    dataset, released, printed = (real("emoint", real_data, variant) for variant in VARIANTS)
    for split in data.SPLITS:
        assert list(getattr(dataset, split).text[1:]) == list(getattr(released, split).text)
    assert Counter(released.train.label)[0] == 856
    known = dataset.train.groupby("text").label.agg(set)
    seen = dataset.test[dataset.test.text.isin(known.index)]
    assert (
        len(seen) == 96
        and sum(label not in known[text] for text, label in seen.itertuples(index=False)) == 91
    )
    assert [int(some.train.text.str.contains("#").sum()) for some in (printed, released)] == [
        1_595,
        32,
    ]
    assert not any(re.search(r"([A-Za-z])\1\1", text) for text in printed.train.text)


@pytest.mark.data
def test_real_sst(real_data):
    five, two = real("sst5", real_data), real("sst2", real_data)
    assert [
        list(getattr(five, split).label.value_counts().sort_index()) for split in data.SPLITS
    ] == [[1_092, 2_218, 1_624, 2_322, 1_288], [139, 289, 229, 279, 165], [279, 633, 389, 510, 399]]
    assert list(five.train.text[five.train.label != 2]) == list(two.train.text)
    assert (
        not pd.concat([five.train, five.test])
        .text.str.contains(r"[^A-Za-z0-9(),!?'` ]|  |[LR]RB")
        .any()
    )
