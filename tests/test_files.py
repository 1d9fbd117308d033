"""Files appear whole or not at all; every number knows where it comes from."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, strategies

from lclkit import __version__, files

REPOSITORY = Path(__file__).parents[1]


def test_whole_file_and_folder_appear_at_the_end(tmp_path):
    with files.whole(tmp_path / "deep" / "file.txt") as partial:
        partial.write_text("done")
        assert not (tmp_path / "deep" / "file.txt").exists() and partial.suffix == ".txt"
    with files.whole(tmp_path / "deep" / "folder") as partial:
        partial.mkdir()
        (partial / "inside").write_text("done")
        assert not (tmp_path / "deep" / "folder").exists()
    assert sorted(p.name for p in (tmp_path / "deep").rglob("*")) == [
        "file.txt",
        "folder",
        "inside",
    ]


def test_whole_replaces_a_file_but_keeps_a_folder_that_is_there(tmp_path):
    for text in ("old", "new"):
        with files.whole(tmp_path / "file") as partial:
            partial.write_text(text)
        with files.whole(tmp_path / "folder") as partial:
            partial.mkdir()
            (partial / text).touch()
    assert (tmp_path / "file").read_text() == "new"
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["old"]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt(), ValueError("no")]
)
@pytest.mark.parametrize("is_folder", [False, True])
def test_whole_leaves_nothing_after_an_exception(tmp_path, error, is_folder):
    with pytest.raises(type(error)), files.whole(tmp_path / "target") as partial:
        if is_folder:
            partial.mkdir()
        (partial / "inside" if is_folder else partial).write_text("half")
        raise error
    assert not list(tmp_path.iterdir())


def test_whole_survives_a_kill(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from lclkit import files\n"
        "with files.whole(Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half'); print('writing', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "target")],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "writing\n"
    process.kill()
    process.communicate()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["half"]
    assert not (tmp_path / "target").exists()
    with files.whole(tmp_path / "target") as partial:
        partial.write_text("done")
    assert (tmp_path / "target").read_text() == "done"


@pytest.mark.parametrize("missing", ["git", "clone"])
def test_provenance_needs_no_git(tmp_path, monkeypatch, missing):
    monkeypatch.setattr(files, "__file__", str(tmp_path / "lclkit" / "files.py"))
    if missing == "git":
        (tmp_path / ".git").mkdir()
        monkeypatch.setenv("PATH", os.devnull)
    made = files.provenance()
    assert made["git_commit"] is None and made["versions"]["lclkit"] == __version__
    assert {"python", "torch", "transformers", "nltk", "numpy"} <= set(made["versions"])


# --- Folders and names ----------------------------------------------------------------------------


def test_whole_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """Else a power cut leaves an empty file under the name of a whole one."""
    calls = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(number):
        calls.append(os.fstat(number).st_ino)
        real_sync(number)

    def replace(*names):
        calls.append("named")
        real_replace(*names)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    with files.whole(tmp_path / "file") as partial:
        partial.write_text("done")
    with files.whole(tmp_path / "folder") as partial:
        (partial / "deep").mkdir(parents=True)
        (partial / "deep" / "one").write_text("1")
        (partial / "two").write_text("2")
    written = [tmp_path / "file", tmp_path / "folder/two", tmp_path / "folder/deep/one"]
    file, *inside = [path.stat().st_ino for path in written]
    assert calls[:2] == [file, "named"] and calls[-1] == "named"
    assert sorted(calls[2:-1]) == sorted(inside)


def test_writable_expands_makes_and_leaves_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert files.writable("~/a b/感情") == tmp_path / "a b" / "感情"
    assert files.writable("relative") == tmp_path / "relative"
    assert files.writable(tmp_path / "relative") == tmp_path / "relative"  # it may be there
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a b", "relative", "感情"]


def test_writable_says_which_folder_why_and_what_to_do(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", "a\0b", tmp_path / ("x" * 300)):
        with pytest.raises(OSError) as refused:
            files.writable(folder)
        message = str(refused.value)
        assert message.startswith(f"cannot write to {folder} (")
        assert message.endswith("; mend it, or name another")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_writable_finds_a_folder_of_another(tmp_path):
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(OSError, match="Permission denied"):
        files.writable(tmp_path)


def test_writable_finds_a_full_disk(tmp_path, monkeypatch):
    """Which takes empty files, but nothing in them."""

    def full(**_):
        return open("/dev/full", "wb")

    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    monkeypatch.setattr(files.tempfile, "NamedTemporaryFile", full)
    with pytest.raises(OSError, match="No space left"):
        files.writable(tmp_path)


def test_writable_finds_a_path_that_leaves_no_place_for_files(tmp_path):
    """What comes has some forty characters more: checkpoints and their files."""
    limit = os.pathconf(tmp_path, "PC_PATH_MAX") if hasattr(os, "pathconf") else 260
    folder = tmp_path
    while len(os.fsencode(folder)) < limit - 220:
        folder /= "x" * 100
    folder /= "x" * (limit - 30 - len(os.fsencode(folder)))
    with pytest.raises(OSError, match="too long"):
        files.writable(folder)


@pytest.mark.parametrize(
    "words, name",
    [
        ("isear", "isear"),
        ("empatheticdialogues-4-hard-a", "empatheticdialogues-4-hard-a"),
        ("my data (v1.2) ü 感情 😀", "my data (v1.2) ü 感情 😀"),
        (".hidden", "hidden"),
        ("..", "-"),
        ("", "-"),
        ("../up/to", "-up-to"),
        ('a/b\\c:d*e?f"g<h>i|j', "a-b-c-d-e-f-g-h-i-j"),
        ("new\nline\0 and \x9f", "new-line- and -"),
        ("end. . ", "end"),
        ("\ud800x", "-x"),
        ("感" * 80, "感" * 26),
        ("x" * 79 + ".y", "x" * 79),
        ("a" * 232, "a" * 80),
    ],
)
def test_safe_name(words, name):
    assert files.safe_name(words) == name


@given(strategies.text(max_size=120))
def test_a_safe_name_is_one(tmp_path, words):
    name = files.safe_name(words)
    assert 0 < len(name.encode()) <= 80 and files.safe_name(name) == name
    assert name[0] not in ". " and name[-1] not in ". "
    (tmp_path / name).write_text("")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    (tmp_path / name).unlink()
