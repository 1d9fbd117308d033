"""The folder of a run, read and packed: whatever was written is read back, and nothing else is."""

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

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
    with pytest.raises(FileNotFoundError):
        Result.load(tmp_path)


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
    frame = results[0].predictions.assign(p_0=3.21e-12)
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
    with pytest.raises(FileNotFoundError):
        find([tmp_path / "nowhere.zip"])


def test_a_run_counts_once(results, tmp_path):
    pack_results(results, tmp_path / "runs" / "a.zip", predictions=False)
    pack_results(results[:1], tmp_path / "b.zip")
    assert len(find([tmp_path / "runs"])) == len(find([tmp_path / "runs" / "a.zip"])) == 3
    found = find([tmp_path / "runs" / "a.zip", tmp_path])
    assert [result.folder.name for result in found] == ["made-ce", "made-lcl", "made-scl"]
    assert not any(result.predictions.empty for result in found)  # those that have them are kept
    assert find([]) == []


def test_an_older_result_is_not_packed(results, tmp_path):
    older = replace(results[0], summary=results[0].summary | {"results_version": 0})
    pack_results([older, results[1]], tmp_path / "runs.zip")
    assert [result.folder.name for result in find([tmp_path / "runs.zip"])] == ["made-lcl"]


def test_other_files_in_a_zip_are_left_out(results, tmp_path):
    pack_results(results, tmp_path / "runs.zip")
    with zipfile.ZipFile(tmp_path / "runs.zip", "a") as packed:
        packed.writestr("README.md", "what this is")
    assert len(find([tmp_path / "runs.zip"])) == 3


def test_needs_no_torch():
    code = "import sys, lclkit.results; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
