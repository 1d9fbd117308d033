"""The ledger: verdicts by their rules, nothing pooled that differs, no run posing as another."""

import subprocess
import sys
import zlib
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lclkit import ledger, paper, training
from lclkit.results import Result, pack_results

ED = "empatheticdialogues"
FIELDS = asdict(training.Config()) | {"precision": "fp32"}
MINILM = {"encoder": "minilm", "trainable_layers": 2, "pooling": "mean", "lr": 2e-4, "epochs": 3}
SIZES = {
    **{name: sizes[0] for name, sizes in paper.SIZES.items()},
    "emoint": 3_613,
    "supersense": 54_033,
}


def made(
    dataset,
    loss,
    accuracy,
    seed=0,
    texts=None,
    right=None,
    weights="some",
    recipe="released",
    version=3,
    **changes,
):
    """A finished run of two classes; with predictions, one per test text, if `right` is given."""
    base, _, classes = dataset.partition("/")
    base, _, variant = base.partition("-")
    name = "-".join(filter(None, [base, variant, classes]))
    config = FIELDS | paper.settings(base, recipe) | {"loss": loss, "seed": seed} | changes
    scores = {f"{split}_phi{kind}": accuracy for split in ("test", "valid") for kind in ("", "_f1")}
    if texts is None:
        texts = (
            paper.SUBSET_SIZES[classes][0]
            if classes
            else SIZES[base] - (variant != "" and base == "emoint")
        )
    frame = pd.DataFrame(
        {"split": "test", "label": 1, "predicted": np.array([] if right is None else right, int)}
    )
    frame = frame.assign(
        p_0=0.25 + 0.5 * (frame.predicted == 0), p_1=0.25 + 0.5 * (frame.predicted == 1)
    )
    key = zlib.crc32(str([name, sorted(config.items()), weights, version]).encode())
    summary = {
        "config": config,
        "dataset": name,
        "texts": texts,
        "scores": scores,
        "seconds": 90.0,
        "device": "a CPU",
        "device_type": "cpu",
        "encoder_hash": weights,
        "results_version": version,
        "classes": ["a", "b"],
    }
    folder = Path("somewhere", f"{name}-{loss}-seed{seed}-{key:08x}")
    cosines = pd.DataFrame({"split": ["valid", "valid", "test", "test"], "label": [0, 1, 0, 1]})
    return Result(folder, summary, frame, cosines.assign(c_0=0.5, c_1=0.5))


def several(dataset, loss, accuracies, **more):
    return [made(dataset, loss, accuracy, seed, **more) for seed, accuracy in enumerate(accuracies)]


def row(results, **wanted):
    """The one row of the ledger that is as wanted."""
    table = ledger.ledger(ledger.runs(results))
    (found,) = [
        r
        for r in table.itertuples()
        if all(getattr(r, name) == value for name, value in wanted.items())
    ]
    return found


LCL = {"table": "1", "dataset": ED, "model": "lcl", "metric": "accuracy"}  # 60.1 (0.3), n = 5


@pytest.mark.parametrize(
    "scores, expected",
    [
        ([60.0, 60.2, 60.1], "inside"),
        ([59.46, 59.46, 59.45], "inside"),  # 59.5 as printed, exactly 2 SD below
        ([59.4, 59.44, 59.4], "outside"),  # 59.4 as printed
        ([60.0, 60.2], "cannot tell"),
        ([60.7], "cannot tell"),
        ([60.8], "cannot tell"),
        ([56.0, 56.1], "outside"),
        ([58.7, 59.8, 59.2, 59.7], "compatible"),
        ([58.2, 59.6, 59.1], "cannot tell"),
        ([58.4, 59.9], "cannot tell"),  # more than a point to each side
        ([59.0, 58.9, 59.1, 59.0, 59.0], "outside"),
    ],
)
def test_verdict_of_scores(scores, expected):
    found = row(several(f"{ED}-released", "lcl", scores), **LCL)
    assert (found.verdict, found.n, found.ours) == (
        expected,
        len(scores),
        pytest.approx(np.mean(scores)),
    )
    assert found.difference == pytest.approx(np.mean(scores) - 60.1)
    assert found.minutes == pytest.approx(1.5 * len(scores)) and found.device == "a CPU"
    assert np.isnan(found.sd) == np.isnan(found.low) == np.isnan(found.p) == (len(scores) == 1)
    if len(scores) > 1:
        assert found.p == pytest.approx(
            stats.ttest_ind_from_stats(
                np.mean(scores), np.std(scores, ddof=1), len(scores), 60.1, 0.3, 5, equal_var=False
            ).pvalue
        )


@pytest.mark.parametrize(
    "scores, expected",
    [
        ([53.0, 53.3, 53.2], "compatible"),
        ([53.2], "cannot tell"),
        ([53.0, 53.3], "cannot tell"),
        ([52.5, 53.8, 53.0], "cannot tell"),
        ([54.0, 54.1, 54.2], "outside"),
    ],
)
def test_verdict_where_no_deviation_is_printed(scores, expected):
    results = several("sst5-released", "ce", scores, encoder=paper.RIVALS["bert-base"])
    found = row(results, table="2", dataset="sst5", model="bert-base")
    assert found.verdict == expected
    assert len(scores) == 1 or found.p == pytest.approx(stats.ttest_1samp(scores, 53.2).pvalue)
    assert (
        row(results, table="2", dataset="sst5", model="ce").verdict == "not attempted"
    )  # BERT is no ELECTRA


@pytest.mark.parametrize(
    "changes, expected",
    [
        (MINILM, "other encoder"),
        ({"trainable_layers": 2}, "other encoder"),
        ({"encoder": paper.RIVALS["bert-base"]}, "not attempted"),
        ({"lr": 1e-4}, "other settings"),
        ({"recipe": "paper"}, "other settings"),
        ({"precision": "bf16"}, "other settings"),
        ({"texts": 100}, "not attempted"),
    ],
)
def test_only_the_papers_setting_is_judged(changes, expected):
    found = row(several(f"{ED}-released", "lcl", [60.1, 60.2, 60.2], **changes), **LCL)
    assert found.verdict == expected and np.isnan(found.p) == (expected != "inside")


@pytest.mark.parametrize(
    "dataset, recipe, expected",
    [
        (f"{ED}-released", "released", "inside"),
        (f"{ED}-paper", "paper", "inside"),
        (ED, "released", "other settings"),
        (f"{ED}-paper", "released", "other settings"),
        (f"{ED}-released/16", "released", "not attempted"),
    ],
)
def test_variants_and_subsets(dataset, recipe, expected):
    """The files have to be the recipe's own."""
    assert (
        row(several(dataset, "lcl", [60.1, 60.2, 60.2], recipe=recipe), **LCL).verdict == expected
    )


def test_stratified_isear_is_another_test():
    results = several("isear-stratified", "lcl", [72.4, 72.4], texts=4_489)
    assert (
        row(results, table="1", dataset="isear", model="lcl", metric="f1").verdict
        == "other settings"
    )


def test_nothing_is_pooled_that_differs():
    some = [
        several(f"{ED}/4-hard-a", "lcl", [50, 51]),
        several(f"{ED}/4-hard-a", "lcl", [60, 61], **MINILM),
        several(f"{ED}/4-hard-a", "lcl", [62, 63], weights="other", **MINILM),
        several(f"{ED}/4-hard-a", "lcl", [64, 65], form="printed", **MINILM),
        several(f"{ED}-paper/4-hard-a", "lcl", [66, 67], **MINILM),
        several(f"{ED}/4-hard-a", "lcl", [68, 69], precision="bf16", **MINILM),
        several(f"{ED}/4-hard-a", "lcl", [70, 71], version=4, **MINILM),
    ]
    table = ledger.ledger(ledger.runs([result for part in some[::-1] for result in part]))
    table = table[(table.classes == "4-hard-a") & (table.model == "lcl")]
    assert sorted(table.ours) == [50.5, 60.5, 62.5, 64.5, 66.5, 68.5, 70.5] and set(table.n) == {2}
    assert table.set_index("setting").encoder["S1"] == paper.ENCODER  # the paper's comes first
    assert sorted(table.encoder)[-1] == "minilm, top 2 layers" and table.setting.nunique() == 7


def test_a_run_counts_once(tmp_path):
    results = several("emoint", "lcl", [86, 87], right=[1] * 3_142)
    pack_results(results, tmp_path / "a.zip", predictions=False)
    pack_results(results[:1], tmp_path / "b.zip")
    found = ledger.find([tmp_path / "a.zip", tmp_path])
    assert len(found) == 2 and ledger.runs(found).seed.tolist() == [0, 1]
    with_predictions = [result for result in found if not result.predictions.empty]
    assert len(with_predictions) == 1  # the one that has them is kept
    assert len(ledger.find([tmp_path / "b.zip"])) == 1
    with pytest.raises(FileNotFoundError):
        ledger.find([tmp_path / "c.zip"])


def test_a_seed_counts_once_though_its_encoder_lies_in_two_places():
    results = []
    for place in "ab":
        results += several("emoint", "lcl", [80, 81], **MINILM | {"encoder": f"/{place}/minilm"})
    frame = ledger.runs(results)
    assert frame.setting.tolist() == ["S1", "S1", "", ""]
    assert set(frame.left_out[2:]) == {"the same seed again, of other files"}
    assert row(results, table="1", dataset="emoint", model="lcl", metric="accuracy").n == 2


def test_left_out():
    results = [
        made("emoint", "ce", 80, texts=100),
        made("supersense", "ce", 80),
        made("emoint", "ce", 80, 1, right=[1] * 200),
        made("emoint-released", "ce", 80, 2),
    ]
    frame = ledger.runs(results)
    assert frame.left_out.tolist() == ["", "not all texts", "not in the paper", "not all texts"]
    assert frame.setting.tolist() == ["S1", "", "", ""]
    assert frame.settings[3] == "released" and "default files" in frame.settings[0]


def test_settings_in_words_name_no_folder():
    frame = ledger.runs(
        [made("emoint", "ce", 80, encoder="/home/me/my-electra", lr=1e-3, recipe="paper")]
    )
    assert (
        frame.encoder[0] == "my-electra" and frame.settings[0] == "paper, lr 0.001, default files"
    )
    assert (
        row(
            [made("emoint", "ce", 85.5, encoder="/x/google/electra-base-discriminator")],
            table="1",
            dataset="emoint",
            model="ce",
            metric="f1",
        ).verdict
        == "other encoder"
    )


def test_without_runs_nothing_is_attempted():
    table = ledger.ledger(ledger.runs([]))
    assert len(table) == len(paper.RESULTS) and set(table.verdict) == {"not attempted"}


def test_contrast_is_welchs_test():
    found = ledger.contrast([(60.1, 0.3, 5), (58.3, 0.5, 7)])
    expected = stats.ttest_ind_from_stats(60.1, 0.3, 5, 58.3, 0.5, 7, equal_var=False)
    assert (found["estimate"], found["p"]) == (
        pytest.approx(1.8),
        pytest.approx(expected.pvalue, rel=1e-9),
    )
    x, y = np.random.default_rng(0).normal(size=(2, 6))
    interval = stats.ttest_ind(x, y, equal_var=False).confidence_interval()
    found = ledger.contrast([(side.mean(), side.std(ddof=1), 6) for side in (x, y)])
    assert (found["low"], found["high"]) == (
        pytest.approx(interval.low),
        pytest.approx(interval.high),
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "parts",
    [
        [(1, 0.1, 1), (2, 0.1, 5)],
        [(1, 0, 5), (2, 0, 5)],
        [(1, np.nan, 1), (2, None, 2)],
        [(np.nan, np.nan, 0), (1, 1, 5)],
    ],
)
def test_contrast_without_spread(parts):
    assert all(np.isnan(ledger.contrast(parts)[name]) for name in ("low", "high", "p"))


# Fields of Config that stand in a column of their own.
APART = {"loss", "seed", "encoder", "trainable_layers"}


def test_every_setting_that_decides_numbers_is_compared_with_the_recipes():
    """The ledger does without training.Config, which needs torch: these are its fields."""
    known = {**paper.COMMON, **paper.settings("isear")}
    assert {field.name for field in fields(training.Config)} <= APART | set(known)
    usual = asdict(training.Config())
    assert {name: usual[name] for name in paper.COMMON} == paper.COMMON


def test_needs_no_torch():
    code = "import sys, lclkit.ledger; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
