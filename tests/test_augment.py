from collections import Counter

import pytest

from lclkit import augment
from lclkit.augment import RECIPES, synonym_views

EACH_RECIPE = pytest.mark.parametrize("recipe", RECIPES)
SENTENCES = [
    "I wasn't happy when my friends lied (again)!",
    "Dogs walked home, ate 2 meals and SLEPT.",
    "He made a bigger mistake in the evening.",
]
GOLDEN = {
    "paper": [
        "I wasn't glad when my friends lied (once again)!",
        "Dog walked home plate, ate 2 repast and SLEPT.",
        "Helium gain a bigger mistake atomic number 49 the eve.",
    ],
    "released": [
        "1 wasn ' tetraiodothyronine well chosen when my friends rest (once more )!",
        "Wienerwurst walked rest home, ate two meal and SLEPT.",
        "Atomic number 2 make a bigger err in the level.",
    ],
}


@pytest.fixture(scope="module")
def texts(made_dataset):
    return list(made_dataset.train.text)


@pytest.fixture
def replaced(monkeypatch):
    """A function: of each text, how many words have a synonym, and how many are replaced."""

    def count(texts, p):
        words = [
            sum(bool(real(match.group().lower())) for match in augment.WORD.finditer(text))
            for text in texts
        ]
        return words, [view.lower().count("zqz") for view in synonym_views(texts, p=p)]

    real = augment.synonyms
    monkeypatch.setattr(augment, "synonyms", lambda word: ("zqz",) if real(word) else ())
    return count


@EACH_RECIPE
def test_seeded(texts, recipe):
    assert synonym_views(texts, seed=3, recipe=recipe) == synonym_views(
        texts, seed=3, recipe=recipe
    )
    assert synonym_views(texts, seed=3, recipe=recipe) != synonym_views(
        texts, seed=4, recipe=recipe
    )


def test_views_are_the_same_on_every_machine(texts):
    assert synonym_views(texts[:3]) == [
        "The scratch was big.",
        "The soup was big again now.",
        "The high mallow equal big while we were at home all eventide.",
    ]


@EACH_RECIPE
def test_views_of_each_recipe_are_the_same_on_every_machine(recipe):
    assert synonym_views(SENTENCES, p=0.5, seed=5, recipe=recipe) == GOLDEN[recipe]


@EACH_RECIPE
def test_independent_of_neighbours_and_order(texts, recipe):
    views = synonym_views(texts, recipe=recipe)
    assert synonym_views(texts[::-1], recipe=recipe) == views[::-1]
    assert [synonym_views([text], recipe=recipe)[0] for text in texts] == views
    assert synonym_views([], recipe=recipe) == []


def test_a_recipe_that_is_not_known():
    with pytest.raises(
        ValueError, match=r"recipe: expected one of \('paper', 'released'\); found 'none'"
    ):
        synonym_views(["a dog"], recipe="none")


@EACH_RECIPE
@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t ",
        "😀 \u200d 👩",
        "a\0dog\0 \x85\u2028",
        "dog" * 3_500_000,
        "one\ntwo\r\nthree",
        "\ud800 dog",
        "..." * 5000,
        "Dog_s ___ \\1 \\g<0> {} %s",
        "İstanbul ǅ ﬁne Straße",
    ],
    ids=lambda text: repr(text[:9]),
)
def test_hostile_texts(text, recipe):
    (view,) = synonym_views([text], recipe=recipe)
    assert view == synonym_views([text], recipe=recipe)[0]
    for character in "😀\0\ud800\\":
        assert view.count(character) == text.count(character)


@EACH_RECIPE
def test_other_kinds_of_lists(made_dataset, texts, recipe):
    assert synonym_views(made_dataset.train.text, recipe=recipe) == synonym_views(
        texts, recipe=recipe
    )
    assert synonym_views(tuple(texts), seed="0", recipe=recipe) == synonym_views(
        texts, recipe=recipe
    )


def test_p_0_changes_no_word_and_p_1_all(texts, replaced):
    assert synonym_views(texts, p=0) == texts
    assert replaced(texts, 0)[1] == [0] * len(texts)
    words, marked = replaced(texts, 1)
    assert marked == words and min(words) > 1


def test_at_least_one_word_is_replaced(texts):
    assert all(view != text for text, view in zip(texts, synonym_views(texts, p=0.01), strict=True))


@pytest.mark.parametrize("p", [-0.1, 1.01, float("nan")])
def test_p_outside_0_to_1(p):
    with pytest.raises(ValueError, match="p: expected a share"):
        synonym_views(["a dog"], p=p)


@pytest.mark.parametrize("text", ["", "...", "12 345", "zxqv of the fghjk!", "\"'-", "日本語"])
def test_text_without_synonyms_stays(text):
    assert synonym_views([text], p=1) == [text]


def test_share_of_replaced_words(supersense, replaced):
    words, marked = replaced(list(supersense.sample(8).train.text), 0.3)
    assert sum(words) > 1000
    assert sum(marked) / sum(words) == pytest.approx(0.3, abs=0.015)
    assert all(
        abs(m - 0.3 * n) <= 0.5 + 1e-9 or m == 1 > 0.3 * n
        for n, m in zip(words, marked, strict=True)
        if n
    )


def test_capital_is_kept(monkeypatch):
    assert all(
        view[0].isupper()
        for view in synonym_views(["Bread", "Big", "Journey", "Quiet", "Fast"], p=1)
    )
    monkeypatch.setattr(
        augment, "synonyms", lambda word: ("staff of life",) if word == "bread" else ()
    )
    assert synonym_views(["Bread, bread BREAD"], p=1) == [
        "Staff of life, staff of life Staff of life"
    ]
    monkeypatch.setattr(augment, "synonyms", lambda word: ("pH value",))
    assert synonym_views(["Bread bread"], p=1) == ["PH value pH value"]


def test_the_rest_of_the_text_stays():
    view = synonym_views(["  (Bread)\t-- zxqv?! "], p=1)[0]
    assert view.startswith("  (") and view.endswith(")\t-- zxqv?! ") and "Bread" not in view


def test_every_replacement_shares_a_synset(made_dataset):
    words = sorted(
        {word.strip(".").lower() for text in made_dataset.train.text for word in text.split()}
    )
    words = [word for word in words if augment.synonyms(word)] + ["dogs", "running", "well-known"]
    assert len(words) > 20
    for seed in range(5):
        for word, view in zip(words, synonym_views(words, p=1, seed=seed), strict=True):
            lemmas = {
                lemma
                for synset in augment.wordnet().synsets(word)
                for lemma in synset.lemma_names()
            }
            assert view.lower() != word and view.replace(" ", "_") in lemmas


@EACH_RECIPE
def test_p_0_keeps_the_words_in_each_recipe(texts, recipe):
    assert [augment.TOKEN.findall(view) for view in synonym_views(texts, p=0, recipe=recipe)] == [
        augment.TOKEN.findall(text) for text in texts
    ]


def test_long_texts_take_no_longer_a_word():
    (view,) = synonym_views(["big dog, " * 100_000], p=1)
    assert len(view) > 500_000 and "dog" not in view.split() and view.count(", ") == 100_000


# "released"


@pytest.fixture
def zqz(monkeypatch):
    """A function: the "released" view of a text, with "zqz" for a synonym of all or some tokens."""

    def view(text, tokens=None, **settings):
        monkeypatch.setattr(
            augment,
            "synonyms_of_token",
            lambda t: ["zqz"] if tokens is None or t in tokens else [],
        )
        return synonym_views([text], recipe="released", **settings)[0]

    return view


@pytest.mark.parametrize(
    "text, p, count",
    [
        ("dog " * 36, 0.3, 10),
        ("dog " * 33, 0.3, 9),
        ("dog " * 60, 0.3, 10),
        ("dog " * 60, 1, 10),
        ("dog " * 9, 0.3, 2),
        ("dog " * 3, 0.3, 1),
        ("dog", 0.3, 1),
        ("dog . . . . . . . . .", 0.3, 1),
        ("a dog , ! ran . . . . . . .", 0.3, 2),
        ("dog_s dog's 12", 1, 4),
        ("dog cat " * 3, 0, 0),
    ],
)
def test_released_counts_from_all_tokens_with_a_cap_of_10(zqz, text, p, count):
    assert zqz(text, p=p).count("zqz") == count


def test_released_does_not_draw_determiners_and_punctuation(zqz):
    for seed in range(20):
        assert zqz("The dog , that ( an ) ANY _ !", seed=seed, p=1) == "The zqz, that (an) ANY _!"
    assert zqz("  The , this !  ") == "The , this !"  # nothing to draw: only the ends are cut
    assert zqz(" ’ ") == "zqz"  # no ASCII punctuation


def test_released_draws_words_without_a_synonym_too(zqz):
    views = {zqz("dog cat cow", {"dog"}, seed=seed) for seed in range(20)}
    assert views == {"dog cat cow", "zqz cat cow"}


@pytest.mark.parametrize(
    "text, expected",
    [
        ("I wasn't (really) sure: 5% of it...", "I wasn ' t (really) sure: 5% of it. .."),
        ('wow!!! "so" <b> [x] end .', 'wow! !! " so " <b> [x] end.'),
        ('he said "no", then left.', 'he said " no ", then left.'),
        ("  a\tb\n c  ", "a b c"),
        ("so ) , no", "so ), no"),
        ("well-known {set}", "well - known {set }"),
        ("a {set} of", "a {set} of"),
    ],
)
def test_released_sets_the_spaces_anew(zqz, text, expected):
    assert zqz(text, {}) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("dog", "zqz"),
        ("Dog", "Zqz"),
        ("DOG", "zqz"),
        ("doG", "zqz"),
        ("McDog", "zqz"),
        ("D", "Zqz"),
        ("d", "zqz"),
        ("K2", "zqz"),
        ("D2g", "Zqz"),
    ],
)
def test_released_capitals(zqz, text, expected):
    assert zqz(text) == expected


def test_released_synonyms_lose_capitals_hyphens_and_underscores():
    assert {"e mail", "electronic mail"} <= set(augment.synonyms_of_token("email"))
    assert "capital of the united states" in augment.synonyms_of_token("washington")


@pytest.mark.parametrize(
    "token, part", [("dogs", None), ("felt", None), ("lead", None), ("near", "a"), ("in", "a")]
)
def test_released_candidates_come_as_often_as_they_share_a_synset(token, part):
    lemmas = (
        lemma for synset in augment.wordnet().synsets(token, part) for lemma in synset.lemma_names()
    )
    expected = Counter(
        lemma.lower().replace("_", " ").replace("-", " ")
        for lemma in lemmas
        if lemma.lower() != token
    )
    assert Counter(augment.synonyms_of_token(token)) == expected
    assert (token == "in") == (not expected) and (token != "dogs" or max(expected.values()) > 1)
