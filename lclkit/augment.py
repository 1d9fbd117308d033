"""Augmented views: a copy of a text with some words replaced by WordNet synonyms (section 4.2)."""

import random
import re
import string
import tomllib
from functools import cache
from pathlib import Path

from lclkit.sources import wordnet

RECIPES = ("paper", "released")
WORD = re.compile(r"[A-Za-z]+(?:[-'][A-Za-z]+)*")
TOKEN = re.compile(r"\w+|[^\w\s]")  # this and what follows as in nlpaug 1.1.0, for "released"
NLPAUG = tomllib.loads(Path(__file__).with_name("augment.toml").read_text(encoding="utf-8"))
STAY = {*NLPAUG["determiners"], *string.punctuation}
CAPITALISED = re.compile("[A-Z]([^A-Z]*[a-z][^A-Z]*)?")


def synonym_views(
    texts: list[str], p: float = 0.3, seed: int | str = 0, recipe: str = "paper"
) -> list[str]:
    """One view of each of K texts, in the same order; drawn from (seed, text), not from neighbours.

    "paper" replaces a share p of the words that have a synonym, at least one. "released" is what
    the authors' code gets from nlpaug 1.1.0: int(p * tokens) tokens, but at least 1 and at most 10,
    are drawn from all but determiners and punctuation; of them, those without a synonym stay; all
    spaces are set anew ("wasn ' t"). Raises ValueError for p outside [0, 1] or an unknown recipe.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p: expected a share in [0, 1]; found {p}")
    if recipe not in RECIPES:
        raise ValueError(f"recipe: expected one of {RECIPES}; found {recipe!r}")
    view_of = _paper_view if recipe == "paper" else _released_view
    seeds = [f"{seed}\0{text}".encode("utf-8", "surrogatepass") for text in texts]
    return [view_of(text, p, random.Random(own)) for text, own in zip(texts, seeds, strict=True)]


@cache
def synonyms(word: str) -> tuple[str, ...]:
    """All other lemmas that share a synset with a word, sorted."""
    lemmas = {lemma.replace("_", " ") for lemma in _lemmas(word.lower())}
    return tuple(sorted(lemma for lemma in lemmas if lemma.lower() != word.lower()))


@cache
def synonyms_of_token(token: str) -> list[str]:
    """Those of "released": a lemma as often as it shares a synset; all in small letters."""
    lemmas = _lemmas(token, "a" if token in NLPAUG["prepositions"] else None)
    return [re.sub("[_-]", " ", lemma.lower()) for lemma in lemmas if lemma.lower() != token]


def _lemmas(word: str, part: str | None = None) -> list[str]:
    """Of all synsets of a word or of what it may be a form of, one after the other."""
    return [lemma for synset in wordnet().synsets(word, part) for lemma in synset.lemma_names()]


def _paper_view(text: str, p: float, rng: random.Random) -> str:
    parts = re.split(f"({WORD.pattern})", text)  # the words are the odd ones
    places = [place for place in range(1, len(parts), 2) if synonyms(parts[place].lower())]
    count = min(len(places), max(1, round(p * len(places)))) if p else 0
    for place in sorted(rng.sample(places, count), reverse=True):
        word = parts[place]
        synonym = rng.choice(synonyms(word.lower()))
        parts[place] = synonym[0].upper() + synonym[1:] if word[0].isupper() else synonym
    return "".join(parts)


def _released_view(text: str, p: float, rng: random.Random) -> str:
    tokens = TOKEN.findall(text)
    places = [place for place, token in enumerate(tokens) if token.lower() not in STAY]
    if not places:
        return text.strip()
    count = min(len(places), 10, max(1, int(p * len(tokens)))) if p else 0
    for place in sorted(rng.sample(places, count)):
        token = tokens[place]
        choices = synonyms_of_token(token.lower())
        if choices:
            synonym = rng.choice(choices)
            tokens[place] = synonym.capitalize() if CAPITALISED.fullmatch(token) else synonym
    view = " ".join(tokens)
    for pattern, replacement in NLPAUG["spacing"]:
        view = re.sub(pattern, replacement, view)
    return view.strip()
