"""The printed numbers, copied without a slip (sums done by hand); the recipes and the profiles."""

import inspect
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lclkit import augment, data, paper

RESULTS = pd.DataFrame(paper.RESULTS)
KEY = ["table", "dataset", "classes", "model", "metric", "split"]


def test_every_number_has_its_place():
    assert not RESULTS.duplicated(KEY).any()
    assert {*RESULTS.dataset} == {*paper.SIZES}
    assert {*RESULTS.classes} == {"", *paper.SUBSETS} - {"4-hard-d-joyful"}
    assert RESULTS.groupby(["table", "split", "metric"]).size().to_dict() == {
        ("1", "test", "accuracy"): 16,
        ("1", "test", "f1"): 16,
        ("2", "test", "accuracy"): 15,
        ("3", "test", "accuracy"): 24,
        ("4", "valid", "accuracy"): 6,
        ("5", "valid", "accuracy"): 12,
        ("5", "valid", "f1"): 12,
    }
    quoted = RESULTS.sd.isna()
    assert RESULTS[quoted].groupby("table").size().to_dict() == {
        "2": 9
    } and RESULTS.n.isna().equals(quoted)
    assert RESULTS[~quoted].groupby("table").n.unique().map(list).to_dict() == {
        "1": [5],
        "2": [5],
        "3": [10],
        "4": [5],
        "5": [5],
    }
    for text, section in paper.CLAIMS.values():
        assert len(text) > 40 and section in ("3.2", "5.1", "5.2", "5.3", "5.4")


@pytest.mark.parametrize(
    "table, dataset, metric, means, sds",
    [  # of a column of the printed table
        ("1", "empatheticdialogues", "accuracy", 232.7, 2.3),
        ("1", "empatheticdialogues", "f1", 227.3, 2.9),
        ("1", "goemotions", "accuracy", 258.7, 1.4),
        ("1", "goemotions", "f1", 254.7, 1.9),
        ("1", "isear", "accuracy", 283.5, 1.2),
        ("1", "isear", "f1", 283.6, 1.1),
        ("1", "emoint", "accuracy", 342.8, 2.0),
        ("1", "emoint", "f1", 342.9, 2.0),
        ("2", "sst5", "accuracy", 398.8, 2.0),
        ("2", "sst2", "accuracy", 756.3, 0.6),
        ("3", "", "accuracy", 176.8, 1.4),
        ("3", "16", "accuracy", 206.3, 1.5),
        ("3", "8", "accuracy", 233.7, 1.8),
        ("3", "4-easy", "accuracy", 266.8, 1.4),
        ("3", "4-hard-a", "accuracy", 169.0, 1.7),
        ("3", "4-hard-b", "accuracy", 191.1, 2.7),
        ("3", "4-hard-c", "accuracy", 163.2, 2.4),
        ("3", "4-hard-d", "accuracy", 205.0, 1.8),
        ("4", "sst2", "accuracy", 283.4, 0.7),
        ("4", "sst5", "accuracy", 163.2, 2.7),
        ("5", "empatheticdialogues", "accuracy", 178.2, 1.3),
        ("5", "empatheticdialogues", "f1", 175.6, 1.6),
        ("5", "goemotions", "accuracy", 197.1, 0.7),
        ("5", "goemotions", "f1", 194.3, 0.8),
        ("5", "isear", "accuracy", 216.5, 1.3),
        ("5", "isear", "f1", 216.5, 1.3),
        ("5", "emoint", "accuracy", 263.8, 2.3),
        ("5", "emoint", "f1", 263.9, 2.3),
    ],
)
def test_sums_of_columns(table, dataset, metric, means, sds):
    column = "classes" if table == "3" else "dataset"
    some = RESULTS[
        (RESULTS.table == table) & (RESULTS[column] == dataset) & (RESULTS.metric == metric)
    ]
    assert (some["mean"].sum(), some.sd.sum()) == pytest.approx((means, sds), abs=0.01)


def test_the_same_32_classes_twice():
    both = RESULTS[
        (RESULTS.dataset == "empatheticdialogues")
        & (RESULTS.classes == "")
        & (RESULTS.metric == "accuracy")
        & (RESULTS.split == "test")
    ].pivot(index="model", columns="table", values=["mean", "sd"])
    differ = (
        (both.xs("3", axis=1, level=1) - both.xs("1", axis=1, level=1))
        .loc[["ce", "scl", "lcl"]]
        .round(1)
    )
    assert differ.values.tolist() == [[-0.2, 0.2], [0.1, -0.2], [0, -0.1]]


def test_tests_are_between_models_of_a_table():
    assert len(paper.TESTS) == len(set(paper.TESTS)) == 33
    tables = {"5.1": "1", "5.2": "2", "5.3": "3"}
    means = RESULTS[RESULTS.metric == "accuracy"].set_index(KEY[:4])["mean"]
    for test in paper.TESTS:
        place = (tables[test.section], test.dataset, test.classes)
        assert means[(*place, test.better)] >= means[(*place, test.worse)]
        assert test.n == (10 if test.section == "5.3" else 5)


@pytest.mark.data
def test_sizes_of_subsets(real_data):
    dataset = data.load("empatheticdialogues", real_data)
    subsets = {name: dataset.subset(name) for name in paper.SUBSETS}
    sizes = {name: (len(some.train), len(some.test)) for name, some in subsets.items()}
    assert sizes == paper.SUBSET_SIZES


def test_constants_are_those_of_the_recipes():
    assert paper.COMMON["batch_size"] == 10
    assert paper.settings("isear") == {
        "lr": 3e-5,
        "alpha": 0.5,
        "temperature": 0.3,
        "form": "released",
        "reduction": "mean",
        "logit_dropout": True,
        "eps_placement": "before",
        "epochs": 5,
        "patience": None,
        "drop_last": True,
        "augmentation": "released",
    }


@pytest.mark.parametrize("dataset", ["isear-mine.csv", "isear-mine", "data/isear.csv", "isear-"])
def test_data_of_ones_own_has_the_usual_values(dataset):
    assert paper.settings(dataset) == paper.settings("supersense") != paper.settings("isear")
    assert paper.profile("paper", dataset).settings["lr"] == 2e-5


SMALL = {"encoder": "minilm", "pooling": "mean", "order": "length", "lr": 2e-4}


@pytest.mark.parametrize(
    "name, texts, seeds, changes",
    [
        ("ci", 100, 2, SMALL | {"epochs": 1, "trainable_layers": 1}),
        ("demo", 1_500, 3, SMALL | {"epochs": 3, "trainable_layers": 2}),
        ("cpu", None, 3, SMALL | {"epochs": 3, "trainable_layers": 2}),
        ("paper", None, 5, {"encoder": paper.ENCODER, "pooling": "cls", "order": "random"}),
    ],
)
@pytest.mark.parametrize("recipe", paper.RECIPES)
def test_profile(name, texts, seeds, changes, recipe):
    found = paper.profile(name, "sst5-released", recipe)
    assert (found.name, found.texts, found.seeds) == (name, texts, seeds)
    assert found.settings == paper.settings("sst5", recipe) | changes


@pytest.mark.parametrize("name", ["demo", "paper"])
def test_the_encoder_of_a_profile_can_be_another(name):
    usual = paper.profile(name, "isear")
    other = paper.profile(name, "isear", encoder="microsoft/mpnet-base")
    changes = {"encoder": "microsoft/mpnet-base", "pooling": "cls"}
    assert other.settings == usual.settings | changes
    small = paper.profile(name, "isear", encoder="minilm").settings
    assert (small["encoder"], small["pooling"]) == ("minilm", "mean")


def test_profile_of_the_environment(monkeypatch):
    monkeypatch.delenv("LCLKIT_PROFILE", raising=False)
    assert paper.profile("", "isear") == paper.profile("demo", "isear")
    monkeypatch.setenv("LCLKIT_PROFILE", "ci")
    assert paper.profile("", "isear") == paper.profile("ci", "isear")
    assert paper.profile("paper", "isear").name == "paper"


def test_a_profile_does_not_remember():
    paper.profile("ci", "isear").settings["lr"] = 1
    assert paper.profile("ci", "isear").settings["lr"] == 2e-4
    paper.settings("isear")["lr"] = 1
    assert paper.settings("isear")["lr"] == 3e-5


def test_unknown_profile(monkeypatch):
    message = "^profile: expected 'ci', 'demo', 'cpu' or 'paper'; found 'x'$"
    with pytest.raises(ValueError, match=message):
        paper.profile("x", "isear")
    monkeypatch.setenv("LCLKIT_PROFILE", "x")
    with pytest.raises(ValueError, match=message):
        paper.profile("", "isear")
    with pytest.raises(ValueError, match="^recipe: expected 'released' or 'paper'; found 'x'$"):
        paper.profile("ci", "isear", "x")
    with pytest.raises(ValueError, match="^recipe: expected one of released, paper; found 'x'$"):
        paper.settings("isear", "x")


def test_an_empty_profile_of_the_environment_is_none(monkeypatch):
    monkeypatch.setenv("LCLKIT_PROFILE", "")
    assert paper.profile("").name == "demo"


# What papermill makes of `-p NAME VALUE`: an int, a float, True, False or None where it looks so,
# else a str; and what people write in a notebook's cell.
AS_TYPED = [
    ("classes", 16, "16"),
    ("classes", "16", "16"),
    ("classes", " 4-hard-a ", "4-hard-a"),
    ("classes", ["joyful", "sad"], ["joyful", "sad"]),
    ("classes", ("joyful", "sad"), ["joyful", "sad"]),
    ("seeds", 2, 2),
    ("seeds", "2", 2),
    ("seeds", " 2 ", 2),
    ("seeds", "007", 7),
    ("seeds", 2.0, 2),
    ("lesson", False, False),
    ("lesson", "false", False),
    ("lesson", "False", False),
    ("lesson", "no", False),
    ("lesson", "off", False),
    ("lesson", 0, False),
    ("lesson", True, True),
    ("lesson", "yes", True),
    ("lesson", "TRUE ", True),
    ("lesson", 1, True),
    ("changes", {"form": "printed"}, {"form": "printed"}),
    ("changes", '{"form": "printed"}', {"form": "printed"}),
    ("changes", "{}", {}),
    ("dataset", " isear\n", "isear"),
    ("dataset", Path("my.csv"), "my.csv"),
    ("dataset", 2026, "2026"),
    ("encoder", " minilm", "minilm"),
    ("recipe", "paper ", "paper"),
]


@pytest.mark.parametrize("name, typed, read", AS_TYPED)
def test_a_parameter_as_people_type_it(name, typed, read):
    found = paper.profile("ci", **{name: typed})
    assert getattr(found, name) == read and type(getattr(found, name)) is type(read)


REFUSED = [
    ("profile", "CI", "expected 'ci', 'demo', 'cpu' or 'paper'; found 'CI'"),
    ("profile", None, "expected 'ci', 'demo', 'cpu' or 'paper'; found None"),
    ("profile", 1, "expected 'ci', 'demo', 'cpu' or 'paper'; found '1'"),
    ("profile", " ", "expected 'ci', 'demo', 'cpu' or 'paper'; found ''"),
    ("recipe", "printed", "expected 'released' or 'paper'; found 'printed'"),
    ("dataset", None, "expected a valid string; found None"),
    ("dataset", ["isear"], r"expected a valid string; found \['isear'\]"),
    ("encoder", None, "expected a valid string; found None"),
    ("classes", 17, "expected '', '16', '8', '4-easy', .* or '4-hard-d-joyful'; found '17'"),
    ("classes", None, "expected '', '16', .*; found None"),
    ("classes", "4-hard", "expected '', '16', .*; found '4-hard'"),
    ("seeds", -1, "expected greater than or equal to 0; found '-1'"),
    ("seeds", 10**9, "expected less than or equal to 1000; found '1000000000'"),
    ("seeds", 1.5, "expected a valid integer, .*; found '1.5'"),
    ("seeds", "two", "expected a valid integer, .*; found 'two'"),
    ("seeds", True, "expected a valid integer, .*; found 'True'"),
    ("seeds", None, "expected a valid integer; found None"),
    ("seeds", [0, 1], r"expected a valid integer; found \[0, 1\]"),
    ("changes", "form=printed", "expected a valid dictionary; found 'form=printed'"),
    ("changes", "[1]", r"expected a valid dictionary; found '\[1\]'"),
    ("changes", None, "expected a valid dictionary; found None"),
    ("lesson", "maybe", "expected a valid boolean, .*; found 'maybe'"),
    ("lesson", None, "expected a valid boolean; found None"),
    ("lesson", 2, "expected a valid boolean, .*; found '2'"),
    ("out", None, "expected a valid string; found None"),
    ("seed_of_all", 1, "Extra inputs are not permitted; found '1'"),
]


@pytest.mark.parametrize("name, typed, message", REFUSED)
def test_a_parameter_that_is_no_good(name, typed, message):
    given = {"name" if name == "profile" else name: typed}
    with pytest.raises(ValueError, match=f"^{name}: {message}$"):
        paper.profile(**{"name": "ci"} | given)


ANYTHING = st.one_of(
    st.text(),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.lists(st.text(), max_size=3),
    st.dictionaries(st.text(), st.integers(), max_size=2),
    st.recursive(st.text(), st.lists, max_leaves=4),
)
FREE = ("dataset", "encoder", "classes", "seeds", "changes", "lesson", "recipe")


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(FREE, ANYTHING)))
def test_any_parameters_are_read_or_refused_by_name(parameters):
    try:
        found = paper.profile("ci", **parameters)
    except ValueError as error:
        name, _, reason = str(error).partition(": ")
        assert name in parameters and "; found " in reason
    else:
        assert 1 <= found.seeds <= 1000 and isinstance(found.changes, dict)
        assert found.dataset == found.dataset.strip() and isinstance(found.lesson, bool)


def test_seeds_as_given_or_the_profiles():
    assert [paper.profile("ci", seeds=seeds).seeds for seeds in (0, "0", 1, "3")] == [2, 2, 1, 3]
    assert "seeds" not in paper.profile("ci", seeds=3).settings


@pytest.mark.parametrize(
    "dataset, classes, name",
    [
        ("supersense", "", "ci"),
        ("isear", "", "ci-isear"),
        ("empatheticdialogues", "4-hard-a", "ci-empatheticdialogues-4-hard-a"),
        ("my.csv", "", "ci-my"),
        ("~/data/MY.CSV", "", "ci-MY"),
        ("../sp äce/感情.csv", "", "ci-感情"),
        ("folder/", "", "ci-folder"),
        ("supersense.csv", "", "ci-supersense"),
        ("a" * 300 + ".csv", "", "ci-" + "a" * 77),
        ("supersense", ["act", "food/drink"], "ci-['act', 'food-drink']"),
    ],
)
def test_other_data_has_a_folder_of_its_own(tmp_path, monkeypatch, dataset, classes, name):
    monkeypatch.chdir(tmp_path)
    found = paper.profile("ci", dataset, classes=classes, out="some/runs")
    assert found.folder == Path("some/runs", name)
    assert not any((tmp_path / "some" / "runs").iterdir())  # made and tried, and nothing left


def test_the_data_of_this_folder(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    assert paper.profile("ci", ".").folder.name == "ci-mine"


def test_the_folder_of_results_is_found_and_tried(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    found = paper.profile("ci", out=" ~/runs")
    assert found.folder == tmp_path / "runs" / "ci" and (tmp_path / "runs").is_dir()
    assert paper.profile("", out="~/runs", folder="page").folder == tmp_path / "runs" / "page"
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write to .*file"):
        paper.profile("ci", out=tmp_path / "file")


def test_where_no_folder_is_asked_for_none_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paper.profile("ci", "my.csv")
    assert not any(tmp_path.iterdir())


def test_views_replace_as_many_words_as_the_paper():
    default = inspect.signature(augment.synonym_views).parameters["p"].default
    assert default == paper.COMMON["replaced"]
