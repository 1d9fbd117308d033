"""The settings of a run: what `weights` takes, and what it refuses."""

import numpy as np
import pandas as pd
import pytest

from lclkit.config import Config, class_weights, identity

CLASSES = ("food", "a, b", "wind")
WEIGHTS = np.array([[0.5, 0.2, 0.3], [0.25, 0.7, 0.05], [0.1, 0.1, 0.8]])
NAMED = pd.DataFrame(WEIGHTS, CLASSES, CLASSES)


def read(weights):
    return class_weights(Config(weights=weights).weights, CLASSES)


def test_a_matrix_is_read_however_it_is_given(tmp_path):
    NAMED.to_csv(tmp_path / "named.csv")
    np.savetxt(tmp_path / "Bare.CSV", WEIGHTS, delimiter=",")
    (tmp_path / "excel.csv").write_text("\ufeff" + NAMED.to_csv().replace("\n", "\r\n"), "utf-8")
    files = [tmp_path / "named.csv", str(tmp_path / "Bare.CSV"), tmp_path / "excel.csv"]
    for given in (WEIGHTS, WEIGHTS.tolist(), NAMED, *files):
        assert (read(given) == WEIGHTS).all()


def test_the_contents_name_a_run_not_the_path(tmp_path):
    files = [tmp_path / "one.csv", tmp_path / "two.csv"]
    for file in files:
        NAMED.to_csv(file)
    assert Config(weights=files[0]) == Config(weights=files[1]) == Config(weights=NAMED)
    assert identity(Config(weights=NAMED))["weights"] == NAMED.to_csv()
    assert "weights" not in identity(Config())


def test_rows_that_were_rounded_are_scaled():
    assert read(WEIGHTS + 0.003).sum(1) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    "weights, message",
    [
        (WEIGHTS.reshape(1, 9), "3 rows of 3 numbers, alone or .*; its shape is .1, 9."),
        (WEIGHTS[:2], "3 rows of 3 numbers, alone or with"),
        (WEIGHTS[:, :2], "3 rows of 3 numbers, alone or with"),
        (WEIGHTS * 2, "rows above 0 that sum to 1; found .* a sum of 2 for food"),
        (WEIGHTS - np.eye(3) * 0.1, "a sum of 0.9 for food"),
        (WEIGHTS + [-0.3, 0.3, 0], "a smallest number of -0.05 .* for a, b"),
        (WEIGHTS * [[1], [1], [np.nan]], "3 rows of 3 numbers, alone or with"),
        ([[0, 0.5, 0.5], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]], "smallest number of 0 .* for food"),
        (NAMED.iloc[::-1], "the data set has 'food' where 'wind' stands"),
        (NAMED[["a, b", "food", "wind"]], "the data set has 'food' where 'a, b' stands"),
        (NAMED.rename(index={"wind": "rain"}), "the data set has 'wind' where 'rain' stands"),
        (NAMED.rename(columns={"wind": "Wind"}), "the data set has 'wind' where 'Wind' stands"),
        (NAMED.to_csv(index=False), "with the classes before and above them; could not convert"),
        (NAMED.to_csv(sep=";", decimal=","), "3 rows of 3 numbers, alone or with"),
        (np.full((4, 4), 0.25), "the data set has 'food' where '0.25' stands"),
        ("0.5,0.5\r0.5,0.5", "3 rows of 3 numbers, alone or with"),
        ("a,b\nc,d", "3 rows of 3 numbers, alone or with"),
    ],
)
def test_a_wrong_matrix_is_refused_in_a_sentence(weights, message):
    with pytest.raises(ValueError, match=f"^weights: expected .*(?:{message})"):
        read(weights)


@pytest.mark.parametrize(
    "given", ["own", "0.5;0.5", "", None, 3, [[[0.5]]], [[1, 0], [1]], {"a": 1}, {1}]
)
def test_what_is_no_matrix_is_refused(given):
    with pytest.raises(ValueError, match="weights"):
        Config(weights=given)


@pytest.mark.parametrize("loss", ["ce", "scl"])
def test_a_loss_without_weights_takes_none(loss):
    assert Config(loss=loss, weights="network").weights == "network"
    with pytest.raises(ValueError, match=f"weights: expected 'network' with {loss}"):
        Config(loss=loss, weights=WEIGHTS)


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.csv"):
        Config(weights="gone.csv")
    (tmp_path / "latin.csv").write_bytes(",é\n".encode("latin-1"))
    with pytest.raises(ValueError, match="weights: expected a .csv file in UTF-8"):
        Config(weights=tmp_path / "latin.csv")


def test_a_name_is_compared_as_data_are_read():
    """As of csv files of one's own: composed letters, white space of any kind."""
    classes = ("né", "a b")
    table = "x,ne\u0301,a\u00a0b\nne\u0301,0.5,0.5\na  b,0.5,0.5"
    assert (class_weights(table, classes) == 0.5).all()


def test_a_frame_has_one_name_on_every_system(monkeypatch):
    monkeypatch.setattr("os.linesep", "\r\n")
    for weights in (NAMED, WEIGHTS):
        assert "\r" not in Config(weights=weights).weights
