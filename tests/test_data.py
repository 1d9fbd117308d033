import csv
import io
import re
import unicodedata
import warnings
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from conftest import VARIANTS, changed, load_quietly, rows
from hypothesis import example, given
from hypothesis import strategies as st

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
        ({"valid": [("here", 2)]}, "valid: .* from 0 to 1; found row {0: .*'here', 'label': 2}}"),
        (
            {"test": [("here", 0), ("there", -1)]},
            "test: .*; found row {1: .*'there', 'label': -1}}",
        ),
        ({"valid": [("here", 0), (" \n", 0)]}, "valid: expected texts.*; found row {1: .*: 0}}"),
        ({"test": []}, "test: expected texts, .*; found row {}"),
        ({"valid": [("here", 0), (None, 0)]}, "valid: .* row {1: {'text': (None|nan), "),
        ({"valid": [("here", 0), (float("nan"), 0)]}, "valid: .* row {1: {'text': nan, "),
        ({"valid": [(b"here", 0)]}, "valid: .* row {0: {'text': b'here'"),
        ({"valid": [(3, 0)]}, "valid: .* row {0: {'text': 3"),
        ({"valid": [("\u200b \ufeff\xa0", 0)]}, "valid: .* row {0: "),
        ({"valid": [("a \ud83d smile", 0)]}, "valid: .* row {0: "),
        ({"valid": [("a\0dog", 0)]}, "valid: .* row {0: "),
        ({"valid": [("here", "0")]}, "valid: .* row {0: .*'label': '0'"),
        ({"valid": [("here", 0.5)]}, "valid: .* row {0: .*'label': 0.5"),
        ({"valid": [("here", None)]}, "valid: .* row {0: .*'label': (None|nan)"),
        ({"classes": ("left", "left")}, "small: classes look alike"),
        ({"classes": ("left", "Left ")}, "small: classes look alike"),
        ({"classes": ("Stra\xdfe", "STRASSE")}, "small: classes look alike"),
        ({"classes": ("left", "")}, "small: classes look alike"),
        ({"classes": (0, 1)}, "small: classes look alike"),
        ({"classes": ("left", "a \ud83d smile")}, "small: classes look alike"),
        ({"classes": ("left",), "train": [("go", 0)], "test": [("go", 0)]}, "fewer than 2"),
        ({"train": [("go this way", 0)]}, "small: no training text of right"),
    ],
)
def test_dataset_refuses(splits, message):
    with pytest.raises(data.DataError, match=message):
        small(**splits)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"text": ["here"]}),
        pd.DataFrame({"label": [0]}),
        pd.DataFrame(),
        [("here", 0)],
        [],
        None,
    ],
)
def test_dataset_refuses_what_has_no_texts_and_labels(frame):
    with pytest.raises(data.DataError, match="small, valid: expected texts, and labels"):
        replace(small(), valid=frame)


@pytest.mark.parametrize(
    "labels",
    [
        pd.Series([0.0, 1.0]),
        pd.Series([False, True]),
        pd.Series([0, 1], dtype=object),
        pd.Series([0, 1], dtype="uint8"),
        pd.Series([0, 1], dtype="Int64"),
        pd.Series([0, 1], dtype="category"),
    ],
    ids=lambda labels: str(labels.dtype),
)
def test_whole_numbers_of_any_type_are_labels(labels):
    train = small().train.assign(label=labels, note="dropped").set_axis([7, 7])
    other = replace(small(), train=train)
    assert other.hash == small().hash
    assert other.train.label.dtype == "int64"
    assert list(other.train) == ["text", "label"] and list(other.train.index) == [0, 1]
    assert list(train.index) == [7, 7]  # one's own frame stays


VALUES = st.one_of(
    st.none(),
    st.text(st.characters(), max_size=4),
    st.sampled_from(["\u200b", "\ud800", "a", "b", "\xa0", "\0"]),
    st.integers(-1, 2),
    st.floats(),
    st.booleans(),
    st.binary(max_size=2),
)


@given(st.lists(st.tuples(VALUES, VALUES), max_size=4), st.lists(VALUES, max_size=3))
def test_any_dataset_by_hand_is_whole_or_refused(texts, classes):
    try:
        made = small(tuple(classes), train=[("a", 0), ("b", 1), *texts], valid=texts or [("c", 0)])
    except data.DataError as error:
        assert str(error).startswith("small")
        return
    assert len(made.hash) == 64 and len(classes) > 1
    assert made.train.text.str.strip().ne("").all() and made.train.label.isin([0, 1, 2]).all()
    assert [text for text, _ in texts] == list(made.train.text[2:])


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
        (["food"], "fewer than 2"),
        ([], "fewer than 2"),
        (0, "unknown class subset '0'; known: 16, 8"),
        (-1, "unknown class subset '-1'"),
        (True, "unknown class subset 'True'"),
        (["food", 3], "unknown class of made 3"),
    ],
)
def test_subset_refuses(made_dataset, classes, message):
    with pytest.raises(data.DataError, match=message):
        made_dataset.subset(classes)


def test_subset_by_a_number_that_a_shell_made_of_its_name(made_dataset, monkeypatch):
    monkeypatch.setitem(paper.SUBSETS, "2", ("food", "weather"))
    assert made_dataset.subset(2).hash == made_dataset.subset("2").hash
    assert made_dataset.subset(2).name == "made-2"


@pytest.mark.parametrize("per_class", [0, 3, -1, -100])
def test_sample_of_too_few(made_dataset, per_class):
    with pytest.raises(data.DataError, match="made, (train|valid): expected texts"):
        made_dataset.sample(per_class)


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
    for name in ("mnist", "x.tsv", "small.csv ", None, 3, Path("none"), "", "a\0"):
        message = "unknown data set .*; known: supersense, empatheticdialogues, .*train.csv, valid"
        with pytest.raises(data.DataError, match=message) as caught:
            data.load(name)
        assert repr(str(name)) in str(caught.value)


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
        (GOOD.replace("label", "emotion", 1).encode(), r"line 1: .* it is \['text', 'emotion'\]"),
        (
            GOOD.replace("text,", "text,text,", 1).encode(),
            r"line 1: .* it is \['text', 'text', 'label",
        ),
        (
            b"text;label\none;a\ntwo;b\n",
            r"line 1: the first line must name one column text and one label; it is .*;label",
        ),
        (b"sep=;\ntext;label\none;a\n", r"line 1: .* it is \['sep=;'\]"),
        (b"text\tlabel\none\ta\n", "line 1: the first line must name one column text"),
        (b"", r"the first line must name one column text and one label; it is \[\]"),
        (b"\n\n , \n", r"the first line must name one column text and one label; it is \["),
        ((GOOD + "some text,\n").encode(), "line 18: no text, no label .*'some text', ''"),
        ((GOOD + "some text\n").encode(), "line 18: no text, no label .*'some text'"),
        ((GOOD + " ,a\n").encode(), "line 18: no text"),
        ((GOOD + "\u200b\xa0\ufeff\x07,a\n").encode(), "line 18: no text"),
        ((GOOD + "a\0dog,a\n").encode(), "line 18: no text"),
        ((GOOD + "\n\n,\n \n ,a\n").encode(), "line 22: no text"),
        (lines(8, 8, 2).encode(), r"3 texts or more; found \{'c': 2, 'a': 8, 'b': 8\}"),
        (lines(8).encode(), r"two classes or more.*; found \{'a': 8\}"),
        (b"text,label\n", r"two classes or more.*; found \{\}"),
        (GOOD.encode() + b"caf\xe9,a\n", "near line 17: 'utf-8' codec can't.*expected UTF-8"),
        (GOOD.encode("utf-16"), "near line 0: 'utf-8' codec can't.*expected UTF-8"),
        (GOOD.encode("utf-16-le"), "line 1: the first line must name one column text"),
        (bytes(range(256)) * 20, "near line .*expected UTF-8"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "near line .*expected UTF-8"),
        ((GOOD + '"never closed,a\n').encode(), "line 18: unexpected end of data.*quotes"),
        (GOOD.replace('r 3",a', "r 3,a").encode(), "line 6: ',' expected.*quotes"),
        ((GOOD + r'"he said \"hi\" there",a').encode(), 'line 18: \',\' expected.*"" for "'),
        ((GOOD + '"Yes" he said,a\n').encode(), "line 18: ',' expected"),
        ((GOOD + "not quoted, alas,a\n").encode(), "line 18: .*too many fields.*commas"),
        ((GOOD + "not quoted, alas,a,\n").encode(), "line 18: .*too many fields.*commas"),
        (GOOD.replace('"', "").encode(), "line 2: .*too many fields.*commas"),
        (
            (GOOD + "x,Joy\ny,joy\n").encode(),
            r"3 texts or more; found {'Joy': 1, 'joy': 1, 'a': 8}",
        ),
        ((GOOD + "x,A\ny,A\nz,A\n").encode(), r"mine: classes look alike.*\('A', 'a', 'b'\)"),
        ((GOOD + "x,a\u200b\ny,a\u200b\nz,a\u200b\n").encode(), r"look alike.*'a\\u200b'"),
        *[((GOOD + f"x,{label}\n").encode(), "line 18: .*no label.*'x'") for label in data.MISSING],
    ],
)
def test_own_csv_refuses(own_csv, content, message):
    path = own_csv(content)
    with pytest.raises(data.DataError, match=message) as caught:
        data.load(path)
    assert "mine" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "\n\n" + GOOD,
        "\ufeff\n" + GOOD,
        GOOD.replace("text,label", ' Text ,"LABEL\xa0"', 1),
        GOOD.replace("text,label", "\ufeff\u200btext\u200b,label", 1),
        GOOD.replace(",a\n", ", a\u3000\n", 3).replace(",b\n", ",\tb \n", 3),
        GOOD.replace('"the', ' "\xa0the', 4).replace('2",', '2\u2028",'),
        GOOD.replace("\n", "\n\n , \n", 9),
        GOOD.replace("\n", ",\n"),
        GOOD.replace("\n", ",,\n"),
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\r"),
        GOOD.replace("\n", ",17\n").replace("17", "id", 1),
        GOOD.replace("text", ",text", 1).replace('"the', '17,"the'),
    ],
)
def test_own_csv_that_only_looks_different(own_csv, content):
    expected = data.load(own_csv(GOOD.encode()))
    with warnings.catch_warnings(action="error"):
        found = data.load(own_csv(content.encode()))
    assert (found.classes, found.hash) == (expected.classes, expected.hash)


def test_labels_of_one_look_are_one_class(own_csv):
    more = ["caf\xe9 noir", "cafe\u0301 noir", "caf\xe9  noir", " cafe\u0301\xa0noir"]
    added = "".join(f"text {i},{label}\n" for i, label in enumerate(more))
    assert data.load(own_csv((GOOD + added).encode())).classes == ("a", "b", "caf\xe9 noir")


def test_long_texts_are_read(own_csv):
    long = "word " * 60_000
    found = data.load(own_csv((GOOD + f"{long},a\n").encode()))
    assert long.strip() in {text for some in rows(found).values() for text, _ in some}


@pytest.mark.parametrize("name", ["MINE.CSV", "mine.Csv", ".csv", "a.b.csv", "感情 データ.csv"])
def test_names_of_own_files(tmp_path, monkeypatch, name):
    (tmp_path / name).write_text(GOOD)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert data.own_files(f"~/{name}") == data.own_files(str(tmp_path / name)) == [tmp_path / name]
    assert data.load(f"~/{name}").name == Path(name).stem.lstrip(".")


def test_own_csv_that_is_missing_or_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"mine\.csv"):
        data.load(tmp_path / "mine.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OSError, match=r"folder\.csv"):
        data.load(tmp_path / "folder.csv")


REPEATS = [
    "the a, number 1",
    "the  a, number 1 ",
    "The A, Number 1",
    "the a,\xa0number 1\u200b",
    "the a\u200b, number 1\xad",
    "the a, number \uff11",
]


@pytest.mark.parametrize("text", REPEATS)
def test_a_text_that_only_looks_different_is_left_out(own_csv, text):
    once = data.load(own_csv(GOOD.encode()))
    message = r"mine\.csv: 1 repeated texts left out, 0 with two labels"
    with pytest.warns(UserWarning, match=message) as caught:
        twice = data.load(own_csv((GOOD + f'"{text}",a\n').encode()))
    assert twice.hash == once.hash and Path(caught[0].filename).name == "test_data.py"


@pytest.mark.parametrize("text", REPEATS)
def test_a_text_with_two_labels_is_left_out(own_csv, text):
    with pytest.warns(UserWarning, match="2 repeated texts left out, 2 with two labels"):
        found = data.load(own_csv((GOOD + f'"{text}",b\n').encode()))
    texts = [text for some in rows(found).values() for text, _ in some]
    assert len(texts) == 15 and "the a, number 1" not in texts


# One's own three files


@pytest.fixture
def three(tmp_path):
    """A function that writes train.csv, valid.csv and test.csv, and gives their folder."""

    def write(**parts):
        folder = tmp_path / "my split"
        folder.mkdir(exist_ok=True)
        parts = {"train": "one,a\ntwo,b\n", "valid": "three,a\n", "test": "four,b\n"} | parts
        for split, content in parts.items():
            (folder / f"{split}.csv").write_text(f"text,label\n{content}", encoding="utf-8")
        return folder

    return write


def test_three_files(three, monkeypatch):
    folder = three(train="two ,b\n one,a \n", valid='three,"a"\n')
    assert data.own_files(str(folder)) == [folder / f"{split}.csv" for split in data.SPLITS]
    with warnings.catch_warnings(action="error"):
        found = data.load(folder)
    assert (found.name, found.classes) == ("my split", ("a", "b"))
    assert rows(found) == {
        "train": [("two", "b"), ("one", "a")],
        "valid": [("three", "a")],
        "test": [("four", "b")],
    }
    monkeypatch.chdir(folder)
    assert (data.load(".").name, data.load(".").hash) == ("my split", found.hash)


def test_a_text_in_two_of_three_files_stays_in_the_later(three):
    folder = three(
        train="one,a\ntwo,b\nThree,a\nFOUR,b\n four,a\ntwo,b\nfive,a\nfive,b\n",
        valid="three,a\nfour ,b\n",
        test="four,b\nfour,b\nsix,a\nsix,b\n",
    )
    message = "my split: 7 repeated texts left out, 4 with two labels"
    with pytest.warns(UserWarning, match=message) as caught:
        found = data.load(folder)
    assert len(caught) == 1 and Path(caught[0].filename).name == "test_data.py"
    assert rows(found) == {
        "train": [("one", "a"), ("two", "b")],
        "valid": [("three", "a")],
        "test": [("four", "b"), ("four", "b"), ("six", "a"), ("six", "b")],
    }


@pytest.mark.parametrize(
    "parts, message",
    [
        ({"valid": "three,c\n"}, "my split: no training text of c"),
        ({"test": "six,c\n"}, "my split: no training text of c"),
        ({"valid": ""}, "my split, valid: expected texts"),
        ({"train": "four,b\nthree,a\n"}, "my split, train: expected texts"),
        ({"valid": "three,A\n"}, r"my split: classes look alike.*\('A', 'a', 'b'\)"),
        ({"valid": "three,nan\n"}, r"valid\.csv, near line 2: .*no label"),
        ({"train": "one,a\ntwo,a\n", "test": "four,a\n"}, "my split: .*fewer than 2"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*repeated texts")
def test_three_files_refuse(three, parts, message):
    with pytest.raises(data.DataError, match=message):
        data.load(three(**parts))


def test_a_folder_without_the_three_files(three):
    folder = three()
    (folder / "valid.csv").unlink()
    assert data.own_files(str(folder)) == []
    with pytest.raises(data.DataError, match="unknown data set .*folder with train.csv, valid.csv"):
        data.load(folder)


def test_a_known_name_is_no_folder_of_ones_own(three, monkeypatch, tmp_path):
    three().rename(tmp_path / ED)  # the raw files have the same names
    monkeypatch.chdir(tmp_path)
    assert data.own_files(ED) == data.own_files("supersense") == data.own_files("none") == []


# Generated files

ODD = st.sampled_from(
    ["a", "B", "\xe9", "e", "\u0301", " ", "\xa0", "\u200b", "\ufeff", ",", '"', "\n", "\r"]
)
CELLS = st.one_of(st.text(ODD, max_size=5), st.text(max_size=5))


def seen(text):
    """What one sees of a text, told in another way than the module does."""
    signs = [" " if sign.isspace() else sign for sign in text]
    signs = [sign for sign in signs if unicodedata.category(sign) not in ("Cc", "Cf")]
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", "".join(signs)).casefold()).strip()


@given(st.lists(st.tuples(CELLS, st.sampled_from(["a", "b ", "\xa0c", "nan", ""])), max_size=25))
@example([(f"{i}", "b ") for i in range(3)] + [(f"{i}", "\xa0c") for i in range(5, 9)])
def test_any_texts_of_ones_own_come_back_once(own_csv, table):
    content = io.StringIO(newline="")
    csv.writer(content).writerows([("text", "label"), *table])
    path = own_csv(content.getvalue().encode("utf-8"))
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        try:
            found = data.load(path)
        except data.DataError as error:
            assert "mine" in str(error)
            return
    found = [row for some in rows(found).values() for row in some]
    labels = {}
    for text, label in table:
        if text or label:
            labels.setdefault(seen(text), set()).add(label.strip())
    expected = {text for text, those in labels.items() if len(those) == 1}
    assert sorted(seen(text) for text, _ in found) == sorted(expected)
    assert all(label in labels[seen(text)] for text, label in found)


@given(st.one_of(st.binary(max_size=60), st.text(ODD).map(str.encode)), st.integers(0, 400))
def test_any_bytes_are_read_or_refused(own_csv, content, place):
    good = GOOD.encode()
    for damaged in (content, good[:place] + content + good[place:]):
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            try:
                assert data.load(own_csv(damaged)).classes
            except data.DataError as error:
                assert "mine" in str(error)


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
