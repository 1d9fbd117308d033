"""Notebook 02's own definitions: a view in a few lines, and the recipe "clean"."""

import math
import random
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_notebooks import ROOT, definitions, read

from lclkit import augment, data

SENTENCES = [
    "I wasn't happy when my friends lied (again)!",
    "Dogs walked home, ate 2 meals and SLEPT.",
    "He made a bigger mistake in the evening.",
]


@pytest.fixture(scope="module")
def nb():
    space = definitions(read(ROOT / "notebooks" / "02_augmentation.ipynb"))
    return SimpleNamespace(**{name: x for name, x in space.items() if not name.startswith("__")})


def test_the_recipe_in_a_few_lines_is_the_one_of_the_paper(nb, made_dataset):
    """But for capitals, which it does not keep."""
    texts = [text.lower() for text in made_dataset.train.text]
    for text, view in zip(texts, augment.synonym_views(texts, seed=7), strict=True):
        assert nb.my_view(text, 0.3, random.Random(f"7\0{text}")) == view


@pytest.mark.parametrize("text", ["", "...", "zxqv of the fghjk!"])
def test_text_without_synonyms_stays(nb, text):
    assert nb.my_view(text, 1.0, random.Random(0)) == text


def test_clean_views_are_the_same_on_every_machine(nb):
    assert [nb.clean_view(text, share=0.5, seed=5) for text in SENTENCES] == [
        "I wasn't glad when my friends consisted (again)!",
        "Frankfurters walked home, consumed 2 meals and SLEPT.",
        "He made a larger mistake in the eve.",
    ]
    assert len({nb.clean_view(SENTENCES[1], seed=seed) for seed in range(9)}) > 3


@pytest.mark.parametrize(
    "text", ["I was not with them; somebody did. X u a", "HE Cannot, don't!", "zqxv 12"]
)
def test_clean_leaves_stop_words_pronouns_and_letters(nb, text):
    assert all(nb.clean_view(text, share=1.0, seed=seed) == text for seed in range(5))
    assert augment.synonym_views(["does it?"], p=1) != ["does it?"]


def test_clean_keeps_capitals(nb):
    known = nb.clean_synonyms("bread")
    assert known and all(synonym.islower() for synonym in known)
    assert nb.clean_synonyms("Bread") == [synonym.capitalize() for synonym in known]
    assert nb.clean_synonyms("BREAD") == [synonym.upper() for synonym in known]
    assert nb.clean_synonyms("brEad") == known


@pytest.mark.parametrize(
    "lemma, part, word, expected",
    [
        ("dog", "n", "cats", "dogs"),
        ("city", "n", "towns", "cities"),
        ("day", "n", "weeks", "days"),
        ("y", "n", "weeks", "ys"),
        ("box", "n", "bins", "boxes"),
        ("church", "n", "temples", "churches"),
        ("wish", "n", "hopes", "wishes"),
        ("boss", "n", "chiefs", "bosses"),
        ("waltz", "n", "dances", "waltzes"),
        ("child", "n", "kids", "children"),
        ("kid", "n", "children", "kids"),
        ("wife", "n", "women", "wives"),
        ("woman", "n", "wives", None),
        ("go", "v", "moves", "goes"),
        ("do", "v", "makes", "does"),
        ("carry", "v", "takes", "carries"),
        ("autopsy", "v", "took", "autopsied"),
        ("play", "v", "went", "played"),
        ("love", "v", "liked", "loved"),
        ("agree", "v", "liked", "agreed"),
        ("stop", "v", "ended", "stopped"),
        ("stop", "v", "ending", "stopping"),
        ("love", "v", "liking", "loving"),
        ("see", "v", "looking", "seeing"),
        ("dye", "v", "inking", "dyeing"),
        ("carry", "v", "taking", "carrying"),
        ("die", "v", "ending", "dying"),
        ("make", "v", "did", "made"),
        ("take", "v", "went", None),
        ("put", "v", "laid", None),
        ("put", "v", "laying", "putting"),
        ("hurt", "v", "ached", None),
    ],
)
def test_clean_inflects(nb, lemma, part, word, expected):
    assert nb.inflected(lemma, part, nb.ending_of(word, part)) == expected


@pytest.mark.parametrize(
    "word, some, none",
    [
        ("dogs", {"hounds", "tails"}, {"hound", "dogs", "domestic dogs"}),
        ("children", {"kids"}, {"kid"}),
        ("walked", set(), {"walk"}),
        ("lied", {"consisted"}, {"dwell"}),
        ("stopping", {"ending", "halting"}, {"end"}),
        # It has a synset of its own; those of "big" are left out.
        ("bigger", {"larger"}, {"heavy", "heavier", "great"}),
        # Both readings: to feel, and to felt.
        ("felt", {"experienced", "mat"}, {"experience", "find"}),
        ("dog", {"hound"}, {"domestic dog", "hounds", "dog"}),
    ],
)
def test_clean_takes_the_inflection_of_the_word(nb, word, some, none):
    found = set(nb.fitting_synonyms(word))
    assert some <= found and not none & found


def test_clean_has_single_words_in_small_letters(nb, supersense):
    words = set()
    for text in supersense.test.text[:500]:
        words.update(augment.WORD.findall(text.lower()))
    synonyms = {word: nb.fitting_synonyms(word) for word in words}
    assert sum(map(bool, synonyms.values())) > 800
    for word, choices in synonyms.items():
        assert word not in choices and choices == sorted(set(choices))
        assert all(choice.isalpha() and choice.islower() for choice in choices)


@pytest.mark.parametrize(
    "texts, share",
    [
        ([], 0),
        ([""], 0),
        (["  "], 0),
        (["dog"], 1),
        (["Dogs"], 1),
        (["the"], 0),
        (["dog."], 0.5),
        (["zqxv, the dogs ran 2"], 0.5),
        (["dog dog dog the"], 0.75),
        (["dog", "the the the"], 0.25),
        (["atop though"], 1),
        (["wasn't"], 1 / 3),
    ],
)
def test_coverage_by_hand(nb, texts, share):
    assert nb.coverage(texts) == pytest.approx(
        share
    )  # "atop" has no synonym, but is known; so is "t" of "wasn ' t"


@pytest.mark.data
def test_coverage_of_real_data(nb, real_data):
    texts = data.load("empatheticdialogues", real_data).valid.text
    assert nb.coverage(texts) == pytest.approx(0.6993, abs=5e-5)


def outputs(tag):
    """What the committed cell that has `tag` in its source says."""
    notebook = read(ROOT / "notebooks" / "02_augmentation.ipynb")
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and tag in cell.source]
    printed = [out.get("text") or out["data"].get("text/plain", "") for out in cell.outputs]
    return "".join(printed), cell


def table_of(tag):
    """The committed table of that cell: a dictionary for each row, "" for its index."""
    _, cell = outputs(tag)
    (html,) = [out["data"]["text/html"] for out in cell.outputs if "data" in out]
    head, *rows = [
        re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        for row in re.findall("<tr.*?</tr>", html, re.DOTALL)
    ]
    return [dict(zip(head, row, strict=True)) for row in rows if len("".join(row[1:])) > 0]


def prose():
    notebook = read(ROOT / "notebooks" / "02_augmentation.ipynb")
    return " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_thirty_per_cent_are_fewer(nb):
    printed, _ = outputs("all_words")
    have, replaced = map(int, re.findall(r"(\d+)%", printed))
    assert replaced < 30 and abs(replaced - 0.3 * have) <= 1
    assert "of all words" in printed and "less than 30 % of all" in prose()


def test_the_coverage_in_the_text_is_the_one_of_the_table():
    rows = [row for row in table_of("PRINTED = {") if row["paper (%)"]]
    assert len(rows) == 6
    for row in rows:
        assert abs(float(row["paper (%)"]) - float(row["ours (%)"])) < 1
        assert row["ours (%)"] in prose()


def test_what_is_said_of_safety_is_what_the_table_says():
    table = {row["recipes"]: row for row in table_of("in itertools.combinations(views, 2)")}
    verdicts = {pair: row["safer"] for pair, row in table.items()}
    assert verdicts["paper - released"] == "released"
    assert verdicts["paper - clean"] == verdicts["released - clean"] == "cannot be told"
    one = table["paper - released"]
    gap, (low, high) = one["labels lost, points"], one["over texts"].split(" to ")
    said = re.search(
        r"by ([\d.]+) points \(95 % interval over texts ([\d.]+) to ([\d.]+)\)", prose()
    )
    assert ["+" + number for number in said.groups()] == [gap, low, high]
    for pair in ("paper - clean", "released - clean"):
        assert table[pair]["tokens lost, points"].startswith("+")  # from there up
    assert "is found safer than neither" in prose()
    table = {row[""]: row for row in table_of('"of those it had right"')}
    for row in table.values():
        assert row["95 % interval"].split(" to ")[1].startswith("-")
    # "clean is lowest although paper loses more labels: views by clean win the fewest"
    least, lost, won = (
        {recipe: float(row[column]) for recipe, row in table.items()}
        for column in (
            "less on the text, points",
            "labels lost, mean of ten draws",
            "labels won, mean",
        )
    )
    assert min(least, key=least.get) == min(won, key=won.get) == "clean"
    assert lost["paper"] > lost["clean"] and sorted(won.values())[0] < sorted(won.values())[1]


def test_how_many_views_are_nearer_than_all_others_of_the_class():
    counts = re.findall(r"class: (\d+) of 400", outputs("nearest = np.where")[0])
    assert len(counts) == 3
    assert f"for {min(counts)} to {max(counts)} of 400 texts" in prose()


def test_three_anchors_in_four_and_sixty_lines():
    printed, _ = outputs("def only_own_view")
    assert "K = 10: 75%" in printed and abs((31 / 32) ** 9 - 0.75) < 0.005
    notebook = read(ROOT / "notebooks" / "02_augmentation.ipynb")
    rules = [
        cell.source
        for cell in notebook.cells
        if re.search("def (irregular_forms|inflected|fitting_synonyms)", cell.source)
    ]
    lines = [line for source in rules for line in source.splitlines() if line.strip()]
    assert len(rules) == 3 and 57 <= len(lines) <= 66


def test_symptom_of_the_batch_with_a_fault(nb):
    """Its positives are strangers, its loss stays above ln(2K - 1); mended, far below."""
    torch.manual_seed(0)
    y = torch.arange(5).repeat(8)
    texts = torch.nn.functional.normalize(torch.eye(5)[y] + 0.1 * torch.randn(40, 5), dim=1)

    def mended(texts, views, y):
        return torch.cat([texts, views]), y.repeat(2)

    wrong, right = (
        np.mean(nb.losses_of(make, texts, texts, y, steps=60)[-20:])
        for make in (nb.colleagues_batch, mended)
    )
    assert right < math.log(19) - 0.5 < wrong
    printed, _ = outputs("def symptom(")
    first, last, same = map(float, re.findall(r"\d+\.\d\d", printed))
    assert min(first, last) > same  # nor is anything said of them in the text
