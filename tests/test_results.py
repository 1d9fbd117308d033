"""The folder of a run, read and packed: whatever was written is read back, and nothing else is."""

import json
import re
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lclkit import results as module
from lclkit.results import RESULTS_VERSION, Result, find, pack_results

CLASSES = ("food", "travel", "weather")
TEXTS = {"valid": 4, "test": 6}


def made(folder: Path, loss: str = "lcl", seed: int = 0) -> Result:
    """A finished run of three classes, written to a folder and read from it."""
    rng = np.random.default_rng([seed, len(loss)])
    frames, cosines = [], []
    for split, n in TEXTS.items():
        p, w = rng.dirichlet(np.ones(3), (2, n))
        frame = pd.DataFrame({"split": split, "label": np.arange(n) % 3, "predicted": p.argmax(1)})
        frame = frame.join(pd.DataFrame(p).add_prefix("p_"))
        if loss == "lcl":
            frame = frame.join(pd.DataFrame(w).add_prefix("w_"))
        frames.append(frame)
        cosine = pd.DataFrame(rng.uniform(-1, 1, (3, 3))).add_prefix("c_")
        cosine.iloc[0, 0] = np.nan  # a class of one text
        cosines.append(cosine.assign(split=split, label=range(3)))
    scores = {"test_phi": 60 + seed, "valid_phi": 61.5}
    if loss == "lcl":
        scores["test_psi"] = 50
    summary = {
        "config": {"loss": loss, "seed": seed, "lr": 2e-5},
        "dataset": "made",
        "classes": list(CLASSES),
        "texts": 32,
        "scores": scores,
        "best_epoch": 2,
        "seconds": 12.5,
        "results_version": RESULTS_VERSION,
        "device": "CPU, Φ",
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(summary), encoding="utf-8")
    for name, parts in (("predictions", frames), ("similarity", cosines)):
        pd.concat(parts).to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    return Result.load(folder)


@pytest.fixture
def results(tmp_path) -> list[Result]:
    return [made(tmp_path / "runs" / f"made-{loss}", loss) for loss in ("ce", "lcl", "scl")]


def test_result_of_a_folder(results):
    _, lcl, scl = results
    assert lcl.folder.name == "made-lcl" and lcl.summary["device"] == "CPU, Φ"
    for split, n in TEXTS.items():
        rows = lcl.rows(split)
        assert rows.index.tolist() == list(range(n)) and set(rows.split) == {split}
        p = lcl.probabilities("phi", split)
        assert p.shape == lcl.probabilities("psi", split).shape == (n, 3)
        np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
        assert rows.predicted.tolist() == p.argmax(1).tolist()
        assert scl.probabilities("psi", split).shape == (n, 0)
        assert lcl.similarity(split).shape == (3, 3) and np.isnan(lcl.similarity(split)[0, 0])
    assert not np.array_equal(lcl.similarity("valid"), lcl.similarity("test"), equal_nan=True)
    np.testing.assert_array_equal(lcl.probabilities(), lcl.probabilities("phi", "test"))
    np.testing.assert_array_equal(lcl.similarity(), lcl.similarity("test"))


def test_result_of_no_folder(tmp_path):
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(ValueError, match=re.escape(str(folder))):
            Result.load(folder)


@pytest.mark.parametrize("predictions", [True, False])
def test_packed_results(results, tmp_path, predictions):
    file = tmp_path / "packed" / "runs.zip"
    pack_results(results, file, predictions)
    assert [path.name for path in file.parent.iterdir()] == ["runs.zip"]
    for _ in range(2):
        packed = find([file])
        assert [one.folder for one in packed] == [file / one.folder.name for one in results]
        for before, after in zip(results, packed, strict=True):
            assert after.summary == before.summary
            kept = before.predictions if predictions else before.predictions[:0]
            columns = ["split", "label", "predicted"]
            assert list(after.predictions) == list(kept)
            assert after.predictions[columns].values.tolist() == kept[columns].values.tolist()
            for split in TEXTS:
                cosines = before.similarity(split)
                np.testing.assert_allclose(after.similarity(split), cosines, atol=5e-5)
                for network in ("phi", "psi") if predictions else ():
                    p = before.probabilities(network, split)
                    np.testing.assert_allclose(after.probabilities(network, split), p, rtol=5e-4)
        pack_results(packed, file, predictions)  # packed again: the same


def test_small_probabilities_are_kept(results, tmp_path):
    frame = results[0].predictions.assign(p_0=3.21e-12, p_1=1, p_2=0)
    small = Result(results[0].folder, results[0].summary, frame, results[0].similarities)
    pack_results([small], tmp_path / "small.zip")
    (packed,) = find([tmp_path / "small.zip"])
    assert set(packed.probabilities()[:, 0]) == {3.21e-12}


def test_a_packed_file_holds_the_folders_of_its_runs(results, tmp_path):
    pack_results(results, tmp_path / "runs.zip")
    with zipfile.ZipFile(tmp_path / "runs.zip") as packed:
        packed.extractall(tmp_path / "by hand")
    names = ["predictions.csv", "result.json", "similarity.csv"]
    by_hand = sorted((tmp_path / "by hand" / "made-lcl").iterdir())
    assert [path.name for path in by_hand] == names
    assert len(find([tmp_path / "by hand"])) == 3


def test_a_killed_packing_leaves_the_file_as_it_was(results, tmp_path):
    pack_results(results[:1], tmp_path / "runs.zip")
    with pytest.raises(AttributeError):
        pack_results([results[0], None], tmp_path / "runs.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "runs.zip"]
    assert len(find([tmp_path / "runs.zip"])) == 1


def test_results_of_a_folder(tmp_path):
    for name in ("a/b", "a", ".hidden", "a/.0011aabb-unfinished"):
        made(tmp_path / name)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "predictions.csv").write_text("split,label\n", encoding="utf-8")
    found = [result.folder.relative_to(tmp_path) for result in find([tmp_path])]
    assert found == [Path("a"), Path("a/b")]
    assert find([tmp_path / "c"]) == []
    with pytest.raises(FileNotFoundError, match="nowhere.zip: expected a folder of runs"):
        find([tmp_path / "nowhere.zip"])


def test_a_run_counts_once(results, tmp_path):
    pack_results(results, tmp_path / "runs" / "a.zip", predictions=False)
    pack_results(results[:1], tmp_path / "b.zip")
    assert len(find([tmp_path / "runs"])) == len(find([tmp_path / "runs" / "a.zip"])) == 3
    found = find([tmp_path / "runs" / "a.zip", tmp_path])
    assert [result.folder.name for result in found] == ["made-ce", "made-lcl", "made-scl"]
    assert not any(result.predictions.empty for result in found)  # those that have them are kept
    assert find([]) == []


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    """A folder with two runs, `made-good` and `made-bad`, of which tests damage a copy."""
    folder = tmp_path_factory.mktemp("pair")
    for name in ("made-good", "made-bad"):
        made(folder / "runs" / name)
    pack_results(find([folder / "runs"]), folder / "runs.zip")
    return folder


def change(file, before, after):
    text = file.read_text(encoding="utf-8")
    assert re.search(before, text)
    file.write_text(re.sub(before, after, text, count=1), encoding="utf-8")


def summary(text):
    return lambda run: (run / "result.json").write_text(text, encoding="utf-8")


def table(name, before, after):
    return lambda run: change(run / f"{name}.csv", before, after)


DAMAGE = {  # what somebody else, a killed machine or an older kit leaves in a run's folder
    "empty": summary(""),
    "not JSON": summary("{'a': 1}"),
    "a list": summary("[]"),
    "an empty object": summary("{}"),
    "a number": summary("4"),
    "deep": summary("[" * 100_000),
    "another program's": summary('{"accuracy": 0.5, "classes": 3}'),
    "of the same version": summary(json.dumps({"results_version": RESULTS_VERSION, "classes": []})),
    "older": lambda run: change(
        run / "result.json", '"results_version": 4', '"results_version": 3'
    ),
    "not UTF-8": lambda run: (run / "result.json").write_bytes(b'{"a": "caf\xe9"}'),
    "a folder": lambda run: ((run / "result.json").unlink(), (run / "result.json").mkdir()),
    "of an older kit": lambda run: (run / "similarity.csv").unlink(),
    "half a run": lambda run: (run / "predictions.csv").unlink(),
    "an empty table": lambda run: (run / "predictions.csv").write_text(""),
    "a binary table": lambda run: (run / "similarity.csv").write_bytes(bytes(range(256))),
    "a diverged run": table("predictions", r",[\d.]+\n", ",nan\n"),
    "a missing probability": table("predictions", r",[\d.]+\n", ",\n"),
    "a word for a probability": table("predictions", r",[\d.]+\n", ",high\n"),
    "infinite": table("predictions", r",[\d.]+\n", ",inf\n"),
    "below 0": table("predictions", r",([\d.]+),[\d.]+\n", r",1.5,-0.5\n"),
    "a row too long": table("predictions", r"\n", "\nvalid,0,0,1,0,0,1,0,0,0,0\n"),
    "a column more": table("predictions", "w_2", "w_2,p_3"),
    "a column less": table("predictions", "predicted", "guessed"),
    "a label that no class has": table("predictions", "valid,0", "valid,3"),
    "a label below 0": table("predictions", "valid,0", "valid,-1"),
    "similarities of two classes": table("similarity", "c_2", "d"),
    "a similarity less": table("similarity", r"\n.*\n", "\n"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_what_is_damaged_is_left_out_and_named(pair, tmp_path, damage):
    shutil.copytree(pair / "runs", tmp_path / "runs")
    damage(tmp_path / "runs" / "made-bad")
    with pytest.warns(UserWarning) as caught:
        (kept,) = find([tmp_path])
    assert kept.folder.name == "made-good"
    (message,) = [str(warning.message) for warning in caught]
    assert str(tmp_path / "runs" / "made-bad") in message and len(message) < 500
    with pytest.raises(ValueError, match="made-bad"):
        Result.load(tmp_path / "runs" / "made-bad")


def test_a_damaged_run_gives_way_to_a_whole_one_of_its_name(pair, tmp_path):
    shutil.copytree(pair / "runs", tmp_path / "runs")
    (tmp_path / "runs" / "made-bad" / "predictions.csv").write_text("")
    with pytest.warns(UserWarning, match="made-bad"):
        found = find([tmp_path / "runs", pair / "runs.zip"])
    assert {result.folder.name for result in found} == {"made-good", "made-bad"}


def torn(share):
    return lambda file: file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])


def flip_directory(file):
    content = bytearray(file.read_bytes())
    content[content.index(b"PK\1\2") + 2] ^= 8
    file.write_bytes(content)


def bomb(file):
    with zipfile.ZipFile(file, "a", zipfile.ZIP_BZIP2) as packed:
        packed.writestr("made-bomb/result.json", "0" * 3_000_000)


SPOILT = {
    "torn": torn(0.5),
    "nearly whole": torn(0.99),
    "empty": torn(0),
    "not a zip": lambda file: file.write_text("what this is"),
    "zeros": lambda file: file.write_bytes(bytes(10_240)),
    "a broken directory": flip_directory,
    "a bomb": bomb,
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_packed_file_that_cannot_be_read_is_left_out_and_named(
    pair, tmp_path, monkeypatch, spoil
):
    monkeypatch.setattr(module, "LIMIT", 1_000_000)
    made(tmp_path / "made-alone")
    shutil.copy(pair / "runs.zip", tmp_path / "bad.zip")
    spoil(tmp_path / "bad.zip")
    for place, count in ((tmp_path, 1), (tmp_path / "bad.zip", 0)):  # found there, and named
        with pytest.warns(UserWarning, match=re.escape(str(tmp_path / "bad.zip"))):
            assert len(find([place])) == count


def test_a_flipped_bit_in_a_packed_file_costs_one_run(pair, tmp_path):
    content = bytearray((pair / "runs.zip").read_bytes())
    with zipfile.ZipFile(pair / "runs.zip") as packed:
        entry = packed.getinfo("made-bad/predictions.csv")
    content[entry.header_offset + 30 + len(entry.filename) + entry.compress_size // 2] ^= 1
    (tmp_path / "bad.zip").write_bytes(content)
    with pytest.warns(UserWarning, match="bad.zip/made-bad"):
        (kept,) = find([tmp_path / "bad.zip"])
    assert kept.folder.name == "made-good"


def same(some: Result, other: Result) -> bool:
    return (
        some.summary == other.summary
        and some.predictions.equals(other.predictions)
        and some.similarities.equals(other.similarities)
    )


@given(st.data())
def test_whatever_happens_to_a_packed_file(pair, tmp_path, generated):
    """What is read of it is as it was packed, and what is not read is warned of."""
    whole = {result.folder.name: result for result in find([pair / "runs.zip"])}
    content = bytearray((pair / "runs.zip").read_bytes())
    places = st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)
    for place in generated.draw(places):
        content[place] = generated.draw(st.integers(0, 255))
    end = generated.draw(st.sampled_from([len(content), *range(0, len(content), 97)]))
    file = tmp_path / "fuzz.zip"
    file.write_bytes(content[:end])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = find([file])
    for result in found:
        if result.folder.name in whole:
            assert same(result, whole[result.folder.name])
    named = [warning for warning in caught if str(file) in str(warning.message)]
    assert len(found) == 2 or named or file.read_bytes().count(b"result.json") < 4


@given(st.data())
def test_whatever_happens_to_a_run(pair, tmp_path, generated):
    """It is a run that notebooks can use, or ValueError names its folder."""
    run = tmp_path / "fuzz"
    shutil.copytree(pair / "runs" / "made-bad", run, dirs_exist_ok=True)
    for file in sorted(run.iterdir()):
        content = bytearray(file.read_bytes())
        for place in generated.draw(st.lists(st.integers(0, len(content) - 1), max_size=2)):
            content[place] = generated.draw(st.sampled_from(b'0129,.-\n"{}[]: naei\xe9\0'))
        file.write_bytes(content)
    try:
        result = Result.load(run)
    except ValueError as error:
        assert str(run) in str(error)
        return
    classes = len(result.summary["classes"])
    for split in TEXTS:
        for network in ("phi", "psi"):
            p = result.probabilities(network, split)
            assert p.shape[1] == classes and np.allclose(p.sum(1), 1, atol=2e-3)
        assert set(result.rows(split).label) <= set(range(classes))
        assert result.similarity(split).shape == (classes, classes)


def test_other_files_in_a_zip_are_left_out(results, tmp_path):
    pack_results(results, tmp_path / "runs.zip")
    with zipfile.ZipFile(tmp_path / "runs.zip", "a") as packed:
        packed.writestr("README.md", "what this is")
    with pytest.warns(UserWarning, match="README.md is no whole run"):
        assert len(find([tmp_path / "runs.zip"])) == 3


def test_needs_no_torch():
    code = "import sys, lclkit.results; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
