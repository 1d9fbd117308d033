"""Files appear whole or not at all; every number knows where it comes from."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
