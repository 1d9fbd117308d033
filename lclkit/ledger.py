"""The ledger: each printed number beside our runs, by rules older than runs of its encoder."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from lclkit import analysis, paper, sources
from lclkit.results import Result, load_results

ALIKE = "encoder settings precision encoder_hash device_type results_version".split()
ABOUT = "run left_out dataset classes place model loss seed same device minutes".split()
SCORES = "test_phi test_phi_f1 valid_phi valid_phi_f1 right entropy".split()
PRINTED = "table dataset classes model metric split paper paper_sd paper_n".split()
OURS = "setting encoder ours sd n low high difference verdict p minutes device".split()
RIVALS = {encoder: model for model, encoder in paper.RIVALS.items()}
NAME = re.compile(
    rf"({'|'.join(paper.SIZES)})(?:-(released|paper|stratified))?(?:-({'|'.join(paper.SUBSETS)}))?"
)


def find(places: Iterable[str | Path]) -> list[Result]:
    """All runs in packed files, or in folders: runs at any depth, and the packed files in it.

    A run that is found again, under the same name, counts once. Raises FileNotFoundError for a
    place that is not there.
    """
    kept: dict[str, Result] = {}
    for place in map(Path, places):
        for source in [place, *sorted(place.glob("*.zip"))]:
            for result in load_results(source):
                name = result.folder.name
                if name not in kept or kept[name].predictions.empty:
                    kept[name] = result
    return list(kept.values())


def runs(results: Iterable[Result]) -> pd.DataFrame:
    """One row a run, ordered by `setting`: S1, S2, ..., whose runs are the same in all of `ALIKE`.

    left_out: why a run is in no setting. place: data set and subset, as "isear" or
    "empatheticdialogues/16". model: the row of a printed table that it may stand in. same: all that
    decides the numbers is as in a recipe. right: of each test text, whether it was, and entropy:
    mean over test texts, in bits; both are missing where a packed file has no predictions. The rest
    is as in result.json.
    """
    frame = pd.DataFrame([_row(result) for result in results], columns=[*ABOUT, *ALIKE, *SCORES])
    kept = frame[frame.left_out == ""]
    size = kept.groupby(ALIKE).run.transform("size")
    kept = kept.assign(rival=kept.encoder != paper.ENCODER, size=-size)
    kept = kept.sort_values(["rival", "size", *ALIKE])  # the paper's encoder, then the largest
    number = kept.groupby(ALIKE, sort=False).ngroup() + 1
    frame["setting"] = ("S" + number.astype(str)).reindex(frame.index, fill_value="")
    again = (frame.setting != "") & frame.duplicated(["setting", "place", "loss", "seed"])
    frame.loc[again, ["setting", "left_out"]] = "", "the same seed again, of other files"
    return frame.loc[[*kept.index, *frame.index.difference(kept.index)]]


def _row(result: Result) -> dict:
    summary = result.summary
    config = summary["config"]
    test = result.rows()
    match = NAME.fullmatch(summary["dataset"])
    dataset, variant, classes = match.groups("") if match else (summary["dataset"], "", "")
    settings = _settings(config, dataset, variant)
    encoder = config["encoder"]
    if Path(encoder).is_absolute() or encoder[0] in ".~":
        encoder = Path(encoder).name  # a page names no folder
    if config["trainable_layers"] is not None:
        encoder += f", top {config['trainable_layers']} layers"
    model = config["loss"]
    if encoder in RIVALS:
        model = RIVALS[encoder] if model == "ce" else "none"
    row = {
        **summary,
        **summary["scores"],
        **config,
        "run": result.folder.name,
        "left_out": _left_out(dataset, variant, classes, summary["texts"], len(test)),
        "dataset": dataset,
        "classes": classes,
        "place": f"{dataset}/{classes}".strip("/"),
        "model": model,
        "encoder": encoder,
        "settings": settings,
        "same": settings in paper.RECIPES,
        "minutes": summary["seconds"] / 60,
    }
    if len(test):
        p = result.probabilities()
        row["right"] = (test.label == test.predicted).to_numpy()
        row["entropy"] = analysis.topk_entropy(p, p.shape[1]).mean()
    return row


def _left_out(dataset: str, variant: str, classes: str, texts: int, test_texts: int) -> str:
    """Why a run is in no setting. test_texts: 0 where its predictions were not kept."""
    if dataset not in paper.SIZES:
        return "not in the paper"
    sizes = sources.SOURCES[dataset].sizes.get(variant or "default", paper.SIZES[dataset])
    if classes:
        sizes = paper.SUBSET_SIZES[classes]
    whole = texts == sizes[0] and test_texts in (0, sizes[-1])
    return "" if whole else "not all texts"


def _settings(config: dict, dataset: str, variant: str) -> str:
    """The nearer recipe and what differs from it, in words."""
    described = []
    for recipe in paper.RECIPES:
        usual = paper.COMMON | paper.settings(dataset, recipe)
        changed = [name for name in config if config[name] != usual.get(name, config[name])]
        words = [recipe, *(f"{name} {config[name]}" for name in changed)]
        described.append(words if variant == recipe else [*words, f"{variant or 'default'} files"])
    return ", ".join(min(described, key=len))


def contrast(parts: Sequence[tuple], weights: Sequence[float] = (1, -1)) -> dict[str, float]:
    """A weighted sum of independent means, by default their difference, and Welch's test of it.

    parts: (mean, SD, n) of each. Degrees of freedom are Satterthwaite's. Returns estimate, low and
    high (95 %), and p of a sum of 0; NaN where there is no spread to test with.
    """
    means, sds, n = np.array(parts, dtype=float).T
    variances = (np.array(weights) * sds) ** 2 / n
    estimate = float(np.dot(weights, means))
    error = np.sqrt(variances.sum())
    if not (n > 1).all() or not error > 0:
        return {"estimate": estimate, "low": np.nan, "high": np.nan, "p": np.nan}
    df = variances.sum() ** 2 / (variances**2 / (n - 1)).sum()
    low, high = stats.t.interval(0.95, df, estimate, error)
    p = 2 * stats.t.sf(abs(estimate) / error, df)
    return {"estimate": estimate, "low": low, "high": high, "p": p}


def verdict(printed: paper.Printed, scores: Sequence[float]) -> tuple[str, float]:
    """What our scores (%, one a seed) are to a printed number, and Welch's p, NaN for one seed.

    The first that applies: "inside": our mean, rounded as the paper's, is within two of its
    standard deviations; "outside": p < .05, where a number without a standard deviation counts as
    exact; "compatible": the 95 % interval of the difference is at most two points wide. "inside"
    and "compatible" take three seeds; else, and where none applies: "cannot tell".
    """
    ours = analysis.summarise(scores)
    theirs = (printed.mean, printed.sd or 0, printed.n or np.inf)
    gap = contrast([(ours["mean"], ours["sd"], ours["n"]), theirs])
    distance = abs(round(ours["mean"], 1) - printed.mean)
    inside = printed.sd is not None and distance <= 2 * printed.sd + 1e-9
    if gap["p"] < 0.05 and not inside:
        word = "outside"
    elif ours["n"] < 3:
        word = "cannot tell"
    elif inside:
        word = "inside"
    else:
        word = "compatible" if gap["high"] - gap["low"] <= 2 else "cannot tell"
    return word, gap["p"]


def ledger(runs: pd.DataFrame) -> pd.DataFrame:
    """Each number of Tables 1 to 5: a row for each setting that attempts it, else "not attempted".

    runs: what `runs` returns. difference: ours less the paper's. verdict: `verdict`'s, or "other
    encoder" or "other settings" than the paper's. p: the test's behind a verdict on our scores.
    minutes: what the row's runs took, on device.
    """
    kept = runs[runs.left_out == ""]
    rows = []
    for printed in paper.RESULTS:
        row = dict(zip(PRINTED, printed, strict=True))
        at_place = kept[(kept.dataset == printed.dataset) & (kept.classes == printed.classes)]
        attempts = at_place[at_place.model == printed.model]
        if attempts.empty:
            rows.append(row | {"setting": "", "verdict": "not attempted"})
        for setting, group in attempts.groupby("setting", sort=False):
            rows.append(row | {"setting": setting} | _beside(printed, group))
    return pd.DataFrame(rows, columns=[*PRINTED, *OURS])


def _beside(printed: paper.Printed, runs: pd.DataFrame) -> dict:
    """What the runs of one setting are to a printed number: the rest of its row."""
    metric = {"accuracy": "phi", "f1": "phi_f1"}[printed.metric]
    scores = runs[f"{printed.split}_{metric}"].tolist()
    ours = analysis.summarise(scores)
    encoder = runs.encoder.iloc[0]
    word, p = verdict(printed, scores)
    if encoder != paper.RIVALS.get(printed.model, paper.ENCODER):
        word, p = "other encoder", np.nan
    elif not runs.same.iloc[0]:
        word, p = "other settings", np.nan
    return {
        **ours,
        "ours": ours["mean"],
        "encoder": encoder,
        "difference": ours["mean"] - printed.mean,
        "verdict": word,
        "p": p,
        "minutes": runs.minutes.sum(),
        "device": "; ".join(runs.device.unique()),
    }
