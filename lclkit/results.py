"""The folder of a finished run: read it, find many, pack many into one small file. No torch."""

import glob
import io
import json
import warnings
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from lclkit import analysis, files

RESULTS_VERSION = 4  # raise it when the same settings would give other numbers
PREFIXES = {"phi": "p", "psi": "w"}  # network -> prefix of its probabilities in predictions.csv
SPLITS = ("valid", "test")  # the splits that a run predicts
LIMIT = 500_000_000  # bytes of a packed file's table


@dataclass(frozen=True)
class Result:
    """One finished run, as its folder holds it.

    summary: result.json: settings, scores in percent, history by epoch, versions, hashes, seconds.
    predictions: predictions.csv, a row a text of valid and test: `split`, `label`, `predicted`, Φ's
    probabilities `p_0` to `p_{C-1}` and, where Ψ was trained, its `w_0` to `w_{C-1}`.
    similarities: similarity.csv, a row for each split and class, see `similarity`.
    """

    folder: Path
    summary: dict
    predictions: pd.DataFrame = field(repr=False)
    similarities: pd.DataFrame = field(repr=False)

    @classmethod
    def load(cls, folder: Path | zipfile.Path) -> "Result":
        """Read a run's folder. Raises ValueError where it is not whole, or of another version."""
        names = ("result.json", "predictions.csv", "similarity.csv")
        try:
            summary, *tables = [(folder / name).read_text(encoding="utf-8") for name in names]
            frames = [pd.read_csv(io.StringIO(table)) for table in tables]
            result = cls(Path(str(folder)), json.loads(summary), *frames)
            result.summary["config"].setdefault("weights", "network")  # a younger field
            if result.summary["results_version"] != RESULTS_VERSION:
                raise ValueError(f"expected results_version {RESULTS_VERSION}")
            classes = len(result.summary["classes"])
            labels = result.predictions[["label", "predicted"]].to_numpy()
            if not np.isin(labels, range(classes)).all():
                raise ValueError(f"a label is not one of {classes} classes")
            for split in SPLITS:
                result.similarity(split).reshape(classes, classes)
                for network in PREFIXES:
                    p = result.probabilities(network, split).reshape(-1, classes)
                    analysis.topk_entropy(p, 1)
            return result
        except Exception as error:  # what damaged files raise has no kind of its own
            reason = f"({type(error).__name__}: {error!s:.180}); move it away"
            raise ValueError(f"{folder} is no whole run of this version {reason}") from error

    def rows(self, split: str = "test") -> pd.DataFrame:
        """The predictions for one split, in the order of its texts."""
        return self.predictions.loc[self.predictions.split == split].reset_index(drop=True)

    def probabilities(self, network: str = "phi", split: str = "test") -> np.ndarray:
        """Φ's or Ψ's probabilities, ``(texts, C)``, in the order of the data set's texts."""
        return self.rows(split).filter(regex=f"^{PREFIXES[network]}_").to_numpy()

    def similarity(self, split: str = "test") -> np.ndarray:
        """Mean cosine under Φ between the texts of each two classes, ``(C, C)``, or NaN."""
        return self.similarities[self.similarities.split == split].filter(regex="^c_").to_numpy()


def find(places: Iterable[str | Path]) -> list[Result]:
    """All runs in packed files, or in folders: runs at any depth, and the packed files in it.

    Runs of one name count once; what is damaged, or no run, is left out with a warning. Raises
    FileNotFoundError for a place that is not there.
    """
    kept: dict[str, Result] = {}
    for place in map(Path, places):
        if not place.exists():
            raise FileNotFoundError(f"{place}: expected a folder of runs, or a packed file")
        for source in [place, *sorted(place.glob("*.zip"))]:
            for folder in _folders(source):
                if folder.name not in kept or kept[folder.name].predictions.empty:
                    try:
                        kept[folder.name] = Result.load(folder)
                    except ValueError as error:
                        warnings.warn(f"left out: {error}", stacklevel=2)
    return list(kept.values())


def _folders(source: Path) -> list:
    if source.is_dir():  # none of hidden folders, whose runs are not finished
        summaries = glob.glob("**/result.json", root_dir=source, recursive=True)
        return sorted((source / summary).parent for summary in summaries)
    try:
        packed = zipfile.ZipFile(source)
        if any(file.file_size > LIMIT for file in packed.infolist()):
            raise ValueError("a file in it is too large")
        return list(zipfile.Path(packed).iterdir())
    except Exception as error:
        warnings.warn(f"left out: {source} is damaged, or no packed file ({error})", stacklevel=3)
        return []


def pack_results(results: Iterable[Result], file: str | Path, predictions: bool = True) -> None:
    """Write the folders of runs, with four digits, to one small .zip file, whole or not at all.

    No text is in it. Without `predictions` these have no rows when read back.
    """
    with files.whole(Path(file)) as new, zipfile.ZipFile(new, "w", zipfile.ZIP_BZIP2) as packed:
        for result in results:
            rows = result.predictions if predictions else result.predictions[:0]
            packed.writestr(f"{result.folder.name}/result.json", json.dumps(result.summary))
            for name, table in (("predictions", rows), ("similarity", result.similarities)):
                content = table.to_csv(index=False, float_format="%.4g")
                packed.writestr(f"{result.folder.name}/{name}.csv", content)
