import pytest

from lclkit import augment, data
from lclkit.augment import synonym_views


@pytest.fixture(scope="module")
def texts(made_dataset):
    return list(made_dataset.train.text)


@pytest.fixture
def replaced(monkeypatch):
    """A function that counts the words with a synonym in every text, and those of them that are replaced."""
    def count(texts, p):
        words = [sum(bool(real(match.group().lower())) for match in augment.WORD.finditer(text)) for text in texts]
        return words, [view.lower().count("zqz") for view in synonym_views(texts, p=p)]

    real = augment.synonyms
    monkeypatch.setattr(augment, "synonyms", lambda word: ("zqz",) if real(word) else ())
    return count


def test_seeded(texts):
    assert synonym_views(texts, seed=3) == synonym_views(texts, seed=3)
    assert synonym_views(texts, seed=3) != synonym_views(texts, seed=4)


def test_views_are_the_same_on_every_machine(texts):
    assert synonym_views(texts[:3]) == [
        "The scratch was big.", "The soup was big again now.",
        "The high mallow equal big while we were at home all eventide."]


def test_independent_of_neighbours_and_order(texts):
    views = synonym_views(texts)
    assert synonym_views(texts[::-1]) == views[::-1]
    assert [synonym_views([text])[0] for text in texts] == views
    assert synonym_views([]) == []


def test_p_0_changes_no_word_and_p_1_all(texts, replaced):
    assert synonym_views(texts, p=0) == texts
    assert replaced(texts, 0)[1] == [0] * len(texts)
    words, marked = replaced(texts, 1)
    assert marked == words and min(words) > 1


def test_at_least_one_word_is_replaced(texts):
    assert all(view != text for text, view in zip(texts, synonym_views(texts, p=.01), strict=True))


@pytest.mark.parametrize("p", [-.1, 1.01, float("nan")])
def test_p_outside_0_to_1(p):
    with pytest.raises(ValueError, match="p: expected a share"):
        synonym_views(["a dog"], p=p)


@pytest.mark.parametrize("text", ["", "...", "12 345", "zxqv of the fghjk!", "\"'-", "日本語"])
def test_text_without_synonyms_stays(text):
    assert synonym_views([text], p=1) == [text]


def test_share_of_replaced_words(supersense, replaced):
    words, marked = replaced(list(supersense.sample(20).train.text), .3)
    assert sum(words) > 3000
    assert sum(marked) / sum(words) == pytest.approx(.3, abs=.015)
    assert all(abs(m - .3 * n) <= .5 + 1e-9 or m == 1 > .3 * n for n, m in zip(words, marked, strict=True) if n)


def test_capital_is_kept(monkeypatch):
    assert all(view[0].isupper() for view in synonym_views(["Bread", "Big", "Journey", "Quiet", "Fast"], p=1))
    monkeypatch.setattr(augment, "synonyms", lambda word: ("staff of life",) if word == "bread" else ())
    assert synonym_views(["Bread, bread"], p=1) == ["Staff of life, staff of life"]


def test_the_rest_of_the_text_stays():
    view = synonym_views(["  (Bread)\t-- zxqv?! "], p=1)[0]
    assert view.startswith("  (") and view.endswith(")\t-- zxqv?! ") and "Bread" not in view


def test_every_replacement_shares_a_synset(made_dataset):
    words = sorted({word.strip(".").lower() for text in made_dataset.train.text for word in text.split()})
    words = [word for word in words if augment.synonyms(word)] + ["dogs", "running", "well-known"]
    assert len(words) > 20
    for seed in range(5):
        for word, view in zip(words, synonym_views(words, p=1, seed=seed), strict=True):
            lemmas = {lemma for synset in data.wordnet().synsets(word) for lemma in synset.lemma_names()}
            assert view.lower() != word and view.replace(" ", "_") in lemmas
