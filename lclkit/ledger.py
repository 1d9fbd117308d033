"""The ledger: each number and claim of the paper beside our runs, by rules older than runs of its encoder."""

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from lclkit import analysis, paper, sources, training
from lclkit.results import Result, load_results

VERDICTS = {  # of a number: the first that applies
    "not attempted": "no run on all the texts, or the model was only quoted and no plan trains it",
    "other encoder": "another encoder than the paper's, or only some of its layers trained: gains can be compared, "
    "scores cannot",
    "other settings": "the paper's encoder, but trained by neither of the two recipes, or on other splits",
    "inside": "our mean, of three seeds or more, rounded as the paper's, is within two of the paper's standard "
    "deviations of its mean",
    "outside": "our mean is further away, and Welch's test of the two means gives p < .05 (a number that is printed "
    "without a standard deviation counts as exact)",
    "compatible": "our mean is further away, but of three seeds or more, p >= .05, and the 95 % interval of the "
    "difference is at most two points wide",
    "cannot tell": "none of these: too few seeds of ours, or too varied ones",
}
CLAIM_VERDICTS = {  # of a claim, by its tests: Welch's over seeds; p, not the interval, corrected by Holm
    "holds": "gain: each is above 0, with a corrected p below alpha, and no 95 % interval ends at or below the margin; "
    "no gain: each does; no difference: each lies within the margin, on both sides of 0",
    "does not hold": "gain: the interval of one ends at or below the margin; no gain: one is above 0, with a corrected "
    "p below alpha, and its interval does not; no difference: one has a corrected p below alpha, and "
    "its interval does not lie within the margin",
    "cannot tell": "neither: too few seeds, too wide intervals, or not all runs are there",
    "not attempted": "no pair of losses to compare",
}
PAIRS = (("lcl", "ce"), ("lcl", "scl"), ("scl", "ce"))
RIVALS = {
    "bert-base": "google-bert/bert-base-uncased",
    "roberta-base": "FacebookAI/roberta-base",
}  # rows of CE
PLANS = {
    "1": "table1",
    "2": "table2",
    "3": "table3",
}  # tables of test scores; 4 and 5 come with them
SUBSET_SIZES = {  # texts in train and test, of the classes of paper.SUBSETS
    "16": (10_705, 1_376),
    "8": (5_420, 686),
    "4-easy": (2_598, 328),
    "4-hard-a": (2_339, 293),
    "4-hard-b": (2_360, 323),
    "4-hard-c": (2_425, 283),
    "4-hard-d": (2_597, 312),
    "4-hard-d-joyful": (2_577, 328),
}
NAME = re.compile(
    rf"({'|'.join(paper.SIZES)})(?:-(released|paper|stratified))?(?:-({'|'.join(paper.SUBSETS)}))?"
)
SCORES = {
    "test_accuracy": "test_phi",
    "test_f1": "test_phi_f1",
    "valid_accuracy": "valid_phi",
    "valid_f1": "valid_phi_f1",
}
COLUMNS = [
    "run",
    "left_out",
    "dataset",
    "classes",
    "place",
    "loss",
    "seed",
    "encoder",
    "settings",
    "same",
    "precision",
    "device",
    "kind",
    *SCORES,
    "minutes",
    "right",
    "entropy",
]  # of `runs`


def find(places: Iterable[str | Path]) -> list[Result]:
    """All runs in packed files, or in folders: runs at any depth, and the packed files in it.

    A run that is found again, under the same name, counts once. Raises FileNotFoundError for a place that is not there.
    """
    found = {}
    for place in map(Path, places):
        for result in itertools.chain.from_iterable(
            map(load_results, [place, *sorted(place.glob("*.npz"))])
        ):
            if result.folder.name not in found or found[result.folder.name].predictions.empty:
                found[result.folder.name] = result
    return list(found.values())


def runs(results: Iterable[Result]) -> pd.DataFrame:
    """One row a run. Runs of one `setting` (S1, S2, ...) differ in data set, loss and seed only.

    A setting is an encoder with its weights, which layers are trained, what is not as in the nearer recipe, precision
    and kind of device. `left_out` says why a run is in no setting: its data set is not in the paper, or not all of it
    was used, or its setting has this seed already, of other files. `same`: all that decides the numbers is as in a
    recipe, its files too. `right`: of each test text, whether it was. `entropy`: mean over
    test texts, in bits. Both are missing where a packed file has no predictions; then its training texts alone are
    counted. Rows are ordered by setting.
    """
    rows = {}
    for result in results:
        summary, config = result.summary, result.summary["config"]
        match, test = NAME.fullmatch(summary["dataset"]), result.rows()
        dataset, variant, classes = (
            (part or "" for part in match.groups()) if match else (summary["dataset"], "", "")
        )
        sizes = (
            sources.SOURCES[dataset].sizes.get(variant or "default", paper.SIZES[dataset])
            if match
            else ()
        )
        sizes = SUBSET_SIZES[classes] if classes else sizes
        whole = match and summary["texts"] == sizes[0] and len(test) in (0, sizes[-1])
        settings, same = _settings(config, dataset, variant)
        name, layers = config["encoder"], config["trainable_layers"]
        name = Path(name).name if Path(name).is_absolute() or name[0] in ".~" else name
        rows.setdefault(
            result.folder.name,
            {
                "run": result.folder.name,
                "left_out": "" if whole else "not all texts" if match else "not in the paper",
                "dataset": dataset,
                "classes": classes,
                "place": f"{dataset}/{classes}".strip("/"),
                "loss": config["loss"],
                "seed": config["seed"],
                "encoder": name + ("" if layers is None else f", top {layers} layers"),
                "settings": settings,
                "same": same,
                "precision": config["precision"],
                "device": summary["device"],
                "kind": (
                    summary["encoder_hash"],
                    summary["device_type"],
                    summary["results_version"],
                ),
                **{column: summary["scores"][key] for column, key in SCORES.items()},
                "minutes": summary["seconds"] / 60,
                "right": (test.label == test.predicted).to_numpy() if len(test) else None,
                "entropy": analysis.topk_entropy(p := result.probabilities(), p.shape[1]).mean()
                if len(test)
                else np.nan,
            },
        )
    frame = pd.DataFrame(rows.values(), columns=COLUMNS)
    keys = frame[frame.left_out == ""].groupby(
        ["encoder", "settings", "precision", "kind"], sort=False
    )
    order = sorted(keys, key=lambda some: (some[0][0] != paper.ENCODER, -len(some[1]), some[0]))
    places = {row: i for i, (_, some) in enumerate(order, start=1) for row in some.index}
    frame["setting"] = [f"S{places[row]}" if row in places else "" for row in frame.index]
    again = (frame.setting != "") & frame.duplicated(["setting", "place", "loss", "seed"])
    frame.loc[again, ["setting", "left_out"]] = "", "the same seed again, of other files"
    return frame.iloc[np.argsort([places.get(row, np.inf) for row in frame.index], kind="stable")]


def _settings(config: dict, dataset: str, variant: str) -> tuple[str, bool]:
    """The nearer recipe and what differs from it, in words; and whether nothing that decides the numbers does."""
    found = []
    for recipe in paper.RECIPES:
        usual = asdict(training.Config()) | paper.settings(dataset, recipe)
        found.append(
            (
                recipe,
                {
                    name: value
                    for name, value in config.items()
                    if value != usual.get(name)
                    and name not in ("loss", "seed", "encoder", "trainable_layers", "precision")
                },
            )
        )
    recipe, changed = min(found, key=lambda some: len(some[1]))
    words = [recipe, *(f"{name} {value}" for name, value in changed.items())]
    words += [f"{variant or 'default'} files"] * (variant != recipe)
    return ", ".join(words), {*changed} <= {"compile", "checkpointing"} and variant == recipe


def contrast(parts: Sequence[tuple], weights: Sequence[float] = (1, -1)) -> dict[str, float]:
    """A weighted sum of independent means, by default their difference, and Welch's test that it is 0.

    parts: (mean, SD, n) of each. Degrees of freedom are Satterthwaite's. Returns estimate, low and high (95 %), p; NaN
    where there is no spread to test with.
    """
    means, sds, n = np.array(parts, dtype=float).T
    v = (np.array(weights) * sds) ** 2 / n
    estimate, error = float(np.dot(weights, means)), np.sqrt(v.sum())
    if not (n > 1).all() or not error > 0:
        return {"estimate": estimate, "low": np.nan, "high": np.nan, "p": np.nan}
    df = v.sum() ** 2 / (v**2 / (n - 1)).sum()
    low, high = stats.t.interval(0.95, df, estimate, error)
    return {
        "estimate": estimate,
        "low": low,
        "high": high,
        "p": 2 * stats.t.sf(abs(estimate) / error, df),
    }


def verdict(printed: paper.Printed, scores: Sequence[float]) -> tuple[str, float]:
    """What our scores (%, one a seed) are to a printed number, by `VERDICTS`: inside, outside, compatible, cannot tell;
    and Welch's p, NaN for one seed."""
    ours = analysis.summarise(scores)
    gap = contrast(
        [
            (ours["mean"], ours["sd"], ours["n"]),
            (printed.mean, printed.sd or 0, printed.n or np.inf),
        ]
    )
    near = (
        printed.sd is not None
        and abs(round(ours["mean"], 1) - printed.mean) <= 2 * printed.sd + 1e-9
    )
    said = (
        "inside"
        if near
        else "outside"
        if gap["p"] < 0.05
        else "compatible"
        if gap["high"] - gap["low"] <= 2
        else "cannot tell"
    )
    return said if ours["n"] >= 3 or said == "outside" else "cannot tell", gap["p"]


def ledger(runs: pd.DataFrame) -> pd.DataFrame:
    """Each number of Tables 1 to 5, a row for each setting that attempts it, or one that says "not attempted".

    runs: what `runs` returns. `difference` is ours less the paper's; `p` is the test's behind a verdict on our
    scores; `minutes` is what the row's runs took on `device`.
    """
    columns = [
        "table",
        "dataset",
        "classes",
        "model",
        "metric",
        "split",
        "paper",
        "paper_sd",
        "paper_n",
        "setting",
        "encoder",
        "ours",
        "sd",
        "n",
        "low",
        "high",
        "difference",
        "verdict",
        "p",
        "minutes",
        "device",
    ]
    kept, rows = runs[runs.left_out == ""], []
    for printed in paper.RESULTS:
        there = (kept.dataset == printed.dataset) & (kept.classes == printed.classes)
        encoder = RIVALS.get(printed.model, paper.ENCODER)
        if printed.model in RIVALS:
            there &= (kept.encoder == encoder) & (kept.loss == "ce")
        else:
            there &= ~kept.encoder.isin(RIVALS.values()) & (kept.loss == printed.model)
        row = dict(zip(columns[:9], printed, strict=True))
        rows += [row | {"setting": "", "verdict": "not attempted"}] * (not there.any())
        for setting, some in kept[there].groupby("setting", sort=False):
            scores = some[f"{printed.split}_{printed.metric}"].tolist()
            ours, first = analysis.summarise(scores), some.iloc[0]
            said, p = (
                ("other encoder", np.nan)
                if first.encoder != encoder
                else verdict(printed, scores)
                if first.same
                else ("other settings", np.nan)
            )
            rows.append(
                row
                | {
                    "setting": setting,
                    "encoder": first.encoder,
                    "ours": ours.pop("mean"),
                    **ours,
                    "difference": np.mean(scores) - printed.mean,
                    "verdict": said,
                    "p": p,
                    "minutes": some.minutes.sum(),
                    "device": "; ".join(dict.fromkeys(some.device)),
                }
            )
    return pd.DataFrame(rows, columns=columns)


def gains(runs: pd.DataFrame) -> pd.DataFrame:
    """How far test accuracy of one loss is above another's (`PAIRS`), in points: the paper's and each setting's.

    low to high: Welch's 95 % interval, over seeds. texts_low to texts_high: over test texts, see `analysis.compare`;
    of the seeds that both have, where there are predictions.
    """
    sides, rows = [*_sides(runs)], []
    places = dict.fromkeys(place for *_, means in sides for place, _ in means)
    for place, pair, (setting, encoder, some, means) in itertools.product(places, PAIRS, sides):
        if {(place, loss) for loss in pair} <= {*means}:
            right = (
                some[some.place == place]
                .dropna(subset="right")
                .pivot(index="seed", columns="loss", values="right")
            )
            right = right.reindex(columns=pair).dropna()
            texts = (
                analysis.compare(*(np.stack(right[loss]) for loss in pair)) if len(right) else {}
            )
            dataset, _, classes = place.partition("/")
            rows.append(
                {
                    "dataset": dataset,
                    "classes": classes,
                    "better": pair[0],
                    "worse": pair[1],
                    "setting": setting,
                    "encoder": encoder,
                    **contrast([means[place, loss] for loss in pair]),
                    **{name: texts.get(name, np.nan) for name in ("texts_low", "texts_high")},
                }
            )
    return pd.DataFrame(rows)


def _printed(plan: str = "") -> dict[tuple[str, str], tuple]:
    """Mean, SD and n of test accuracy of each (place, model), as printed: in the table that a plan runs, else in the
    first that has it, for Tables 1 and 3 both have all 32 classes."""
    found = {}
    for r in sorted(paper.RESULTS, key=lambda r: PLANS.get(r.table) != plan):
        if r.table in PLANS and r.metric == "accuracy":
            found.setdefault((f"{r.dataset}/{r.classes}".strip("/"), r.model), (r.mean, r.sd, r.n))
    return found


def _sides(runs: pd.DataFrame, metric: str = "accuracy", plan: str = "") -> Iterable[tuple]:
    """The paper, and each setting: its name, encoder, runs, and mean, SD and n of each (place, loss)."""
    yield "paper", paper.ENCODER, runs[:0], _printed(plan) if metric == "accuracy" else {}
    for setting, some in runs[runs.left_out == ""].groupby("setting", sort=False):
        scores = some["test_accuracy" if metric == "accuracy" else metric].groupby(
            [some.place, some.loss]
        )
        yield (
            setting,
            some.encoder.iloc[0],
            some,
            {key: (x.mean(), x.std(), len(x)) for key, x in scores},
        )


def read_claims(folder: str | Path) -> dict[str, dict]:
    """The claims of all plans in a folder, by name, in the paper's order, each with its `plan`; none without a folder.

    A claim has `paper` (a name in paper.CLAIMS), `pairs` of losses, `where`: data sets, or data set/subset, with a test
    for each pair and place; or a mapping of them to weights, with a test for each pair, of the weighted sum of gains.
    `expect`: "gain", "no gain" or "no difference". `metric`: "accuracy" (points) or "entropy" (bits); `margin`, in its
    unit; `alpha`. Raises ValueError where one has another form.
    """
    found, places = {}, {place for place, _ in _printed()}
    for file in sorted(Path(folder).glob("*.yml")):
        for name, claim in (
            yaml.safe_load(file.read_text(encoding="utf-8")).get("claims") or {}
        ).items():
            claim = {"metric": "accuracy", "alpha": 0.05, **claim, "plan": file.stem}
            good = (
                {*claim}
                == {"paper", "pairs", "where", "expect", "metric", "margin", "alpha", "plan"}
                and claim["paper"] in paper.CLAIMS
                and name not in found
                and claim["expect"] in ("gain", "no gain", "no difference")
                and claim["metric"] in ("accuracy", "entropy")
                and {*itertools.chain(*claim["pairs"])} <= {"ce", "scl", "lcl"}
                and {*claim["where"]} <= places
            )
            if not good:
                raise ValueError(
                    f"{file.name}: {name}: expected a name of its own, and the keys and values that "
                    f"ledger.read_claims names; found {claim}"
                )
            found[name] = claim
    return dict(sorted(found.items(), key=lambda one: [*paper.CLAIMS].index(one[1]["paper"])))


def judge(claims: dict[str, dict], runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What runs say to each claim, by `CLAIM_VERDICTS`: a row for each claim and setting, and one for each test.

    Setting "paper" is what the same tests say to the paper's own printed numbers, where it printed what they need, in
    the table that the claim's `plan` runs.
    """
    verdicts, tests = [], []
    for name, claim in claims.items():
        judged = []
        for setting, encoder, _, means in _sides(runs, claim["metric"], claim["plan"]):
            found = pd.DataFrame(
                [{"claim": name, "setting": setting, **test} for test in _tests(claim, means)]
            )
            if found.estimate.isna().all():
                continue
            found["corrected"] = np.where(
                found.p.isna(), np.nan, analysis.holm(found.p.fillna(1))
            )  # of all tests
            clear, slight = (
                found.corrected < claim["alpha"],
                found.high <= claim["margin"],
            )  # sure, or slight
            gain, within = (
                clear & (found.estimate > 0) & ~slight,
                slight & (found.low >= -claim["margin"]),
            )
            yes, no = {
                "gain": (gain, slight),
                "no gain": (slight, gain),
                "no difference": (within, clear & ~within),
            }[claim["expect"]]
            found["says"] = np.select(
                [yes, no, found.estimate.isna()], ["yes", "no", "no run"], "open"
            )
            said = (
                "holds"
                if yes.all()
                else "does not hold"
                if "no" in found.says.tolist()
                else "cannot tell"
            )
            judged.append(
                {
                    "claim": name,
                    "setting": setting,
                    "encoder": encoder,
                    "verdict": said,
                    **found.says.value_counts().reindex(
                        ["yes", "no", "open", "no run"], fill_value=0
                    ),
                }
            )
            tests.append(found)
        if not [one for one in judged if one["setting"] != "paper"]:
            judged.append({"claim": name, "setting": "", "encoder": "", "verdict": "not attempted"})
        verdicts += judged
    columns = ["claim", "setting", "test", "estimate", "low", "high", "p", "corrected", "says"]
    return (
        pd.DataFrame(
            verdicts,
            columns=["claim", "setting", "encoder", "verdict", "yes", "no", "open", "no run"],
        ),
        pd.concat(tests)[columns].reset_index(drop=True)
        if tests
        else pd.DataFrame(columns=columns),
    )


def _tests(claim: dict, means: dict[tuple[str, str], tuple]) -> Iterable[dict]:
    """The contrasts of a claim; NaN where a loss was not run."""
    where = claim["where"]
    sums = [where] if isinstance(where, dict) else [{place: 1} for place in where]
    for pair, weights in itertools.product(claim["pairs"], sums):
        label = (
            " - ".join(pair) + ": " + (next(iter(weights)) if len(weights) == 1 else "weighted sum")
        )
        parts = [
            means.get((place, loss), (np.nan, np.nan, 0)) for place in weights for loss in pair
        ]
        yield {
            "test": label,
            **contrast(parts, [w * sign for w in weights.values() for sign in (1, -1)]),
        }
