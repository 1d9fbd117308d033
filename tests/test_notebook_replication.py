"""Notebook 07's own definitions: gains, claims by their rules, what is missing, and the page."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats
from test_ledger import ED, MINILM, made, several
from test_notebooks import ROOT, definitions, read

from lclkit import __main__ as commands
from lclkit import ledger, paper, replicate
from lclkit.results import Result, pack_results

NB = definitions(read(ROOT / "notebooks" / "07_replication.ipynb"))


def judge(claims, results):
    return NB["judge"](claims, ledger.runs(results))


def test_without_runs_nothing_is_attempted():
    frame = ledger.runs([])
    assert set(NB["gains_of"](frame).setting) == {"paper"}
    verdicts, tests = judge(NB["read_claims"](replicate.PLANS), [])
    theirs = verdicts.setting == "paper"
    assert set(verdicts[~theirs].verdict) == {"not attempted"}
    assert set(tests.setting) == {"paper"}
    said = verdicts[theirs].set_index("claim").verdict  # of what the authors printed
    assert said["hard_subsets"] == "cannot tell" and said["more_confusable"] == "holds"
    assert NB["missing"](frame).seeds.sum() == 18 * 5 + 24 * 10 + 8 * 5


def test_layout_has_the_papers_numbers():
    results = several("emoint", "lcl", [80, 81], **MINILM)
    found = NB["layout"](ledger.ledger(ledger.runs(results)), "1").set_index(["model", "whose"])
    assert found.index.tolist()[-2:] == [("lcl", "paper"), ("lcl", "S1 minilm, top 2 layers")]
    assert found["emoint f1"].tolist() == [
        "85.0 (0.6)",
        "85.5 (0.9)",
        "85.8 (0.2)",
        "86.6 (0.3)",
        "80.5 (0.7) n=2",
    ]
    assert found.columns.tolist() == [
        f"{name} {metric}"
        for name in (ED, "goemotions", "isear", "emoint")
        for metric in ("accuracy", "f1")
    ]
    assert NB["layout"](ledger.ledger(ledger.runs([])), "2").sst5.tolist()[:5] == [
        "53.2 (-)",
        "56.2 (-)",
        "57.8 (-)",
        "58.6 (-)",
        "",
    ]


def test_gains():
    right = np.arange(3_142) % 10 > 0
    results = (
        several("emoint", "lcl", [86, 87], right=right)
        + several("emoint", "ce", [84, 84.5, 85], right=right)
        + several("emoint", "scl", [84], **MINILM)
    )
    found = NB["gains_of"](ledger.runs(results))
    ours = found[found.setting != "paper"]
    assert [(r.better, r.worse) for r in ours.itertuples()] == [
        ("lcl", "ce")
    ]  # never across settings
    assert (ours.estimate.item(), ours.texts_low.item(), ours.texts_high.item()) == (2, 0, 0)
    assert ours.p.item() == pytest.approx(
        stats.ttest_ind([86, 87], [84, 84.5, 85], equal_var=False).pvalue
    )
    theirs = found[(found.setting == "paper") & (found.dataset == ED) & (found.classes == "")]
    assert theirs.estimate.tolist() == pytest.approx([1.8, 1.6, 0.2])  # of Table 1, not 3


def test_gains_leave_out_a_seed_that_is_there_twice():
    right = np.arange(3_142) % 4 > 0
    results = []
    for place in "ab":
        for loss in ("lcl", "ce"):
            changes = MINILM | {"encoder": f"/{place}/minilm"}
            results += several("emoint", loss, [80, 81], right=right, **changes)
    gains = NB["gains_of"](ledger.runs(results))
    assert len(gains[gains.setting == "S1"]) == 1


CLAIM = {
    "paper": "emotion",
    "pairs": [["lcl", "ce"]],
    "where": ["emoint", "isear"],
    "expect": "gain",
    "margin": 0.5,
}
HIGH, MUCH, SAME = [86.0, 86.2, 86.1], [90.0, 90.2, 90.1], [86.1, 86.0, 86.2]


@pytest.mark.parametrize(
    "changes, lcl, ce, expected",
    [
        ({}, (MUCH, MUCH), (HIGH, HIGH), "holds"),
        ({}, (MUCH, SAME), (HIGH, HIGH), "does not hold"),
        ({}, (MUCH, [86, 90]), (HIGH, HIGH), "cannot tell"),
        ({}, (MUCH, []), (HIGH, HIGH), "cannot tell"),
        ({}, ([90], [90]), ([80], [80]), "cannot tell"),
        ({}, (MUCH, MUCH), ([], []), "not attempted"),
        ({"expect": "no gain"}, (SAME, SAME), (HIGH, HIGH), "holds"),
        ({"expect": "no gain"}, (SAME, MUCH), (HIGH, HIGH), "does not hold"),
        ({"expect": "no gain"}, (SAME, [84, 88]), (HIGH, HIGH), "cannot tell"),
        ({"expect": "no gain"}, (SAME, HIGH), (HIGH, MUCH), "holds"),
        ({"expect": "no difference"}, (SAME, SAME), (HIGH, HIGH), "holds"),
        ({"expect": "no difference"}, (SAME, HIGH), (HIGH, MUCH), "does not hold"),
        ({"expect": "no difference"}, (SAME, MUCH), (HIGH, HIGH), "does not hold"),
        ({"expect": "no difference"}, (SAME, [84, 88]), (HIGH, HIGH), "cannot tell"),
        ({"margin": 6}, (MUCH, MUCH), (HIGH, HIGH), "does not hold"),  # the margin goes before p
        ({"margin": 6, "expect": "no gain"}, (MUCH, MUCH), (HIGH, HIGH), "holds"),
        ({"margin": 6, "expect": "no difference"}, (HIGH, MUCH), (MUCH, HIGH), "holds"),
        ({"where": {"emoint": 1, "isear": -1}}, (MUCH, SAME), (HIGH, HIGH), "holds"),
        ({"where": {"emoint": 1, "isear": -1}}, (SAME, MUCH), (HIGH, HIGH), "does not hold"),
        ({"where": {"emoint": 1, "isear": -1}}, (MUCH, []), (HIGH, HIGH), "not attempted"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_claims(changes, lcl, ce, expected, tmp_path):
    (tmp_path / "plan.yml").write_text(
        yaml.safe_dump({"claims": {"one": CLAIM | changes}}), encoding="utf-8"
    )
    results = [
        result
        for loss, some in (("lcl", lcl), ("ce", ce))
        for name, scores in zip(("emoint", "isear"), some, strict=True)
        for result in several(name, loss, scores, **MINILM)
    ]
    verdicts, tests = judge(NB["read_claims"](tmp_path), results)
    (said,) = verdicts[verdicts.setting != "paper"].itertuples()
    assert said.verdict == expected
    assert said.encoder == ("" if expected == "not attempted" else "minilm, top 2 layers")
    if (
        expected == "holds"
        and "gain" == (CLAIM | changes)["expect"]
        and isinstance((CLAIM | changes)["where"], list)
    ):
        tests = tests[tests.setting == "S1"]
        assert (tests.corrected > tests.p).any() and set(tests.says) == {"yes"}  # Holm


def test_correction_is_for_all_tests_of_a_claim():
    claim = CLAIM | {
        "where": ["emoint", "isear", "sst2", "sst5"],
        "metric": "accuracy",
        "alpha": 0.05,
        "plan": "own",
    }
    results = several("emoint", "lcl", [86, 87, 88], **MINILM) + several(
        "emoint", "ce", [84, 85, 85.5], **MINILM
    )
    verdicts, tests = judge({"one": claim}, results)
    ran = tests[(tests.setting == "S1") & tests.p.notna()]
    assert 0.01 < ran.p.item() < 0.05 and ran.corrected.item() == pytest.approx(4 * ran.p.item())
    assert verdicts[verdicts.setting == "S1"].verdict.item() == "cannot tell"
    assert tests[(tests.setting == "S1") & tests.p.isna()].corrected.isna().all()


@pytest.mark.parametrize(
    "plan, lcl, ce",
    [
        ("table1", (60.1, 0.3, 5), (58.3, 0.5, 5)),
        ("table3", (60.1, 0.2, 10), (58.1, 0.7, 10)),
        ("own", (60.1, 0.3, 5), (58.3, 0.5, 5)),
    ],
)
def test_the_papers_numbers_are_of_the_plans_table(plan, lcl, ce):
    claim = CLAIM | {"where": [ED], "metric": "accuracy", "alpha": 0.05, "plan": plan}
    _, tests = judge({"one": claim}, [])
    assert tests.p.tolist() == [pytest.approx(ledger.contrast([lcl, ce])["p"])]


def test_claim_of_entropy():
    sure, torn = [1] * 3_142, [0] * 3_142
    results = several("emoint", "lcl", [86, 86], right=sure)
    others = several("emoint", "ce", [86, 86], right=torn)
    for i, result in enumerate(others):
        result.predictions[["p_0", "p_1"]] = [[0.5 + 0.01 * i, 0.5 - 0.01 * i]] * 3_142
    claim = CLAIM | {
        "metric": "entropy",
        "where": ["emoint"],
        "pairs": [["ce", "lcl"]],
        "alpha": 0.05,
        "plan": "own",
    }
    results[1].predictions[["p_0", "p_1"]] = [[0.24, 0.76]] * 3_142
    verdicts, tests = judge({"one": claim | {"margin": 0}}, results + others)
    assert verdicts.verdict.tolist() == ["holds"]
    assert tests.estimate.item() == pytest.approx(1 - stats.entropy([0.25, 0.75], base=2), abs=0.02)
    unpacked = [
        Result(r.folder, r.summary, r.predictions[:0], r.similarities) for r in results + others
    ]
    verdicts, _ = judge({"one": claim}, unpacked)
    assert verdicts.verdict.tolist() == ["not attempted"]


def test_the_plans_claims_are_sound():
    claims = NB["read_claims"](replicate.PLANS)
    assert {claim["paper"] for claim in claims.values()} == {*paper.CLAIMS}
    for claim in claims.values():
        assert len({frozenset(pair) for pair in claim["pairs"]}) == len(
            claim["pairs"]
        )  # no test twice
        if isinstance(claim["where"], dict):
            assert sum(claim["where"].values()) == pytest.approx(
                0
            )  # a common gain of all is no trend


@pytest.mark.parametrize(
    "changes",
    [
        {"expect": "win"},
        {"pairs": [["lcl", "lcl2"]]},
        {"where": ["mnist"]},
        {"extra": 1},
        {"metric": None},
        {"paper": "nothing"},
        {"metric": "f2"},
        {"where": [f"{ED}/4-hard-e"]},
    ],
)
def test_claims_of_another_form(changes, tmp_path):
    (tmp_path / "plan.yml").write_text(
        yaml.safe_dump({"claims": {"one": CLAIM | changes}}), encoding="utf-8"
    )
    with pytest.raises(ValueError, match="plan.yml: one: expected"):
        NB["read_claims"](tmp_path)


def test_missing_names_what_is_not_there():
    some = several("emoint-released", "lcl", [86, 87, 88]) + several(
        "emoint-released", "ce", [80] * 5, **MINILM
    )
    before, after = (
        frame.set_index(["table", "dataset", "classes", "encoder"]).loc[
            ("1", "emoint", "", paper.ENCODER)
        ]
        for frame in (NB["missing"](ledger.runs([])), NB["missing"](ledger.runs(some)))
    )
    assert (before.seeds, after.seeds, after.losses) == (15, 12, "ce, scl, lcl")
    assert before.minutes - after.minutes == pytest.approx(3 * 5 * paper.MINUTES["emoint"])
    assert after.command.endswith(
        "replicate table1 --only dataset=emoint loss=ce,scl,lcl encoder= classes="
    )


def test_commands_of_what_is_missing_run_just_that(own_cache, tmp_path):
    for row in NB["missing"](ledger.runs([])).itertuples():
        plan, _, *only = row.command.split()[4:]
        assert len(replicate.expand(plan, tmp_path, only, dry=True)) == row.seeds


def test_markdown():
    frame = pd.DataFrame({"a|b": ["x", ""], "n": [1.25, np.nan], "m": [3, 4]})
    assert (
        NB["markdown"](frame)
        == "| a\\|b | n | m |\n| --- | --- | --- |\n| x | 1.2 | 3 |\n|  |  | 4 |"
    )


def test_report_writes_one_page(tmp_path, capsys):
    right = np.arange(293) % 4 > 0
    results = [
        result
        for loss, accuracies in (("ce", (70, 71)), ("lcl", (74, 75)), ("scl", (70, 72)))
        for result in several(f"{ED}-released/4-hard-a", loss, accuracies, right=right, **MINILM)
    ]
    isear = several("isear-released", "lcl", [72.4, 72.5, 72.4])
    pack_results([*results, *isear, made("emoint", "ce", 9, texts=3)], tmp_path / "packed.zip")
    assert commands.report([tmp_path / "packed.zip"], tmp_path / "page") == 0
    page = (tmp_path / "page" / "RESULTS.md").read_text(encoding="utf-8")
    assert "its authors can earn: 4 inside.\n" in page
    assert "| S2 | minilm, top 2 layers | LCL - CE | 1 | 1 | 0 | 0 |" in page
    assert "By setting S2, one loss or more has no run on: empatheticdialogues, goemotions," in page
    assert re.search(r"\| S2 \| minilm, top 2 layers \| .*lr 0.0002", page)
    assert (
        "| 3 | empatheticdialogues 4-hard-a | lcl | accuracy | test | 57.5 | 0.7 | 74.5 | 0.7 | 2 |"
        in page
    )
    ours = "72.4 | 0.1 | 3 | 72.3 to 72.6 | 0.0 | inside |"
    assert f"| 1 | isear | lcl | accuracy | test | 72.4 | 0.2 | {ours}" in page
    assert "| hard_subsets | S2 | minilm, top 2 layers | cannot tell |" in page
    assert "Left out: 1 runs on other data or a part of the texts" in page
    assert "replicate table1 --only dataset=isear loss=ce,scl,lcl" in page and not re.search(
        r"\bnan\b|None", page
    )
    for link in re.findall(r"\]\((.*?)\)", page):
        assert (tmp_path / "page" / link).is_file()
    origin = json.loads(
        (tmp_path / "page" / "figures" / "07_entropy.json").read_text(encoding="utf-8")
    )
    assert {result.folder.name for result in results} <= {*origin["runs"]}
    assert str(tmp_path / "page" / "RESULTS.md") in capsys.readouterr().out
