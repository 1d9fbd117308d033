"""The folder of a finished run: read it, pack many into one small file, list them. No torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from lclkit import files

PREFIXES = {"phi": "p", "psi": "w"}  # network -> prefix of its probabilities in predictions.csv
SPLITS = ("valid", "test")  # the splits that a run predicts


@dataclass(frozen=True)
class Result:
    """One finished run, as its folder holds it.

    summary: result.json: settings, scores of Φ and Ψ in percent, history by epoch, versions,
        hashes, seconds (without the preparation that runs share).
    predictions: predictions.csv, a row for each text of valid and test: `split`, `label`,
        `predicted`, Φ's probabilities `p_0` to `p_{C-1}` and, for lcl, Ψ's, `w_0` to `w_{C-1}`.
    similarities: similarity.csv, a row for each split and class: `split`, `label`, and `c_0` to
        `c_{C-1}`, see `similarity`.
    """

    folder: Path
    summary: dict
    predictions: pd.DataFrame = field(repr=False)
    similarities: pd.DataFrame = field(repr=False)

    @classmethod
    def load(cls, folder: str | Path) -> "Result":
        """Read a run's folder. Raises FileNotFoundError where there is none."""
        folder = Path(folder)
        summary = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        predictions = pd.read_csv(folder / "predictions.csv")
        return cls(folder, summary, predictions, pd.read_csv(folder / "similarity.csv"))

    def rows(self, split: str = "test") -> pd.DataFrame:
        """The predictions for one split, in the order of its texts."""
        return self.predictions[self.predictions.split == split].reset_index(drop=True)

    def probabilities(self, network: str = "phi", split: str = "test") -> np.ndarray:
        """Φ's or Ψ's probabilities, ``(texts, C)``, in the order of the data set's texts."""
        return self.rows(split).filter(regex=f"^{PREFIXES[network]}_").to_numpy()

    def similarity(self, split: str = "test") -> np.ndarray:
        """Mean cosine under Φ between the texts of each two classes, ``(C, C)``, symmetric.

        A text is not compared with itself; NaN where there is nothing to compare.
        """
        rows = self.similarities[self.similarities.split == split]
        return rows.filter(regex="^c_").to_numpy()


def load_results(place: str | Path) -> list[Result]:
    """The runs of a folder, at any depth, or of a file that `pack_results` made.

    Raises FileNotFoundError where there is neither.
    """
    place = Path(place)
    if place.is_dir():
        return [Result.load(file.parent) for file in _result_files(place)]
    with np.load(place) as arrays:
        summaries = [json.loads(text) for text in arrays["summaries"]]
        return [_unpacked(place, arrays, i, summary) for i, summary in enumerate(summaries)]


def _result_files(folder: Path) -> list[Path]:
    """All result.json below a folder, but not in hidden folders: those are unfinished."""
    found = sorted(folder.rglob("result.json"))
    hidden = [any(part.startswith(".") for part in f.relative_to(folder).parts) for f in found]
    return [file for file, is_hidden in zip(found, hidden, strict=True) if not is_hidden]


def _unpacked(place: Path, arrays: np.lib.npyio.NpzFile, i: int, summary: dict) -> Result:
    rows = pd.DataFrame(arrays[f"{i}_rows"], columns=["split", "label", "predicted"])
    rows["split"] = rows.split.map(dict(enumerate(SPLITS))).astype(object)
    parts = [rows]
    for prefix in PREFIXES.values():
        if f"{i}_{prefix}" in arrays:
            p = arrays[f"{i}_{prefix}"].astype(float)
            parts.append(pd.DataFrame(p).add_prefix(f"{prefix}_"))
    predictions = pd.concat(parts, axis=1)
    return Result(place / summary["run"], summary, predictions, _cosines(arrays, i, summary))


def _cosines(arrays: np.lib.npyio.NpzFile, i: int, summary: dict) -> pd.DataFrame:
    classes = len(summary["classes"])
    cosines = pd.DataFrame(arrays[f"{i}_cosines"].astype(float)).add_prefix("c_")
    cosines.insert(0, "split", np.repeat(SPLITS, classes).astype(object))
    cosines.insert(1, "label", np.tile(np.arange(classes), len(SPLITS)))
    return cosines


def pack_results(results: Sequence[Result], file: str | Path, predictions: bool = True) -> None:
    """Write runs to one small .npz file, for keeping beside a notebook: no text is in it.

    It holds summaries, similarities and, in half precision, predictions; without `predictions`
    their frames have no rows when read back. The file appears whole or not at all.
    """
    summaries = [json.dumps(result.summary | {"run": result.folder.name}) for result in results]
    arrays = {"summaries": np.array(summaries)}
    for i, result in enumerate(results):
        frame = result.predictions if predictions else result.predictions[:0]
        rows = frame[["split", "label", "predicted"]]
        rows = rows.assign(split=rows.split.map(SPLITS.index))
        arrays[f"{i}_rows"] = rows.to_numpy(np.int16)
        for prefix in PREFIXES.values():
            columns = frame.filter(regex=f"^{prefix}_")
            if not columns.empty:
                arrays[f"{i}_{prefix}"] = columns.to_numpy(np.float16)
        arrays[f"{i}_cosines"] = result.similarities.filter(regex="^c_").to_numpy(np.float32)
    with files.whole(Path(file)) as partial, open(partial, "wb") as stream:
        np.savez_compressed(stream, **arrays)


def table(results: Sequence[Result]) -> pd.DataFrame:
    """One row a run: its settings, data set, scores in percent, best epoch, seconds, device."""
    return pd.DataFrame([_row(result.summary) for result in results])


def _row(summary: dict) -> dict:
    about = {"dataset": summary["dataset"], "classes": len(summary["classes"])}
    rest = {name: summary[name] for name in ("best_epoch", "seconds", "device")}
    return {**summary["config"], **about, **summary["scores"], **rest}
