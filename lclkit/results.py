"""The folder of a finished run: read it, pack many into one small file, list them. No torch."""

import glob
import json
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from lclkit import files

PREFIXES = {"phi": "p", "psi": "w"}  # network -> prefix of its probabilities in predictions.csv
RESULTS_VERSION = 4  # raise it when the same settings would give other numbers
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
    def load(cls, folder: str | Path) -> Self:
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
    if not place.is_dir():
        with tempfile.TemporaryDirectory() as unpacked, zipfile.ZipFile(place) as packed:
            packed.extractall(unpacked)
            results = load_results(unpacked)
        return [replace(result, folder=place / result.folder.name) for result in results]
    found = glob.glob("**/result.json", root_dir=place, recursive=True)  # none in hidden folders
    return [Result.load(place / Path(file).parent) for file in sorted(found)]


def pack_results(results: Sequence[Result], file: str | Path, predictions: bool = True) -> None:
    """Write the folders of runs to one small .zip file, for keeping beside a notebook.

    It holds summaries, similarities and predictions, with four digits; no text is in it. Without
    `predictions` their frames have no rows when read back. The file appears whole or not at all.
    """
    with files.whole(Path(file)) as new, zipfile.ZipFile(new, "w", zipfile.ZIP_BZIP2) as packed:
        for result in results:
            rows = result.predictions if predictions else result.predictions[:0]
            texts = {
                "result.json": json.dumps(result.summary),
                "predictions.csv": rows.to_csv(index=False, float_format="%.4g"),
                "similarity.csv": result.similarities.to_csv(index=False, float_format="%.4g"),
            }
            for name, text in texts.items():
                packed.writestr(f"{result.folder.name}/{name}", text)


def table(results: Sequence[Result]) -> pd.DataFrame:
    """One row a run: its settings, data set, scores in percent, best epoch, seconds, device."""
    rows = []
    for result in results:
        summary = result.summary
        row = summary["config"] | {"dataset": summary["dataset"]}
        row |= {"classes": len(summary["classes"]), **summary["scores"]}
        rows.append(row | {name: summary[name] for name in ("best_epoch", "seconds", "device")})
    return pd.DataFrame(rows)
