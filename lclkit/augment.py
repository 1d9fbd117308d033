"""Augmented views: a copy of a text with some words replaced by WordNet synonyms (section 4.2)."""

import random
import re
from functools import cache

from lclkit import data, paper

WORD = re.compile(r"[A-Za-z]+(?:[-'][A-Za-z]+)*")


@cache
def synonyms(word: str) -> tuple[str, ...]:
    """All WordNet lemmas that share a synset with a word, itself left out; sorted, () where there are none."""
    found = {lemma.replace("_", " ") for synset in data.wordnet().synsets(word) for lemma in synset.lemma_names()}
    return tuple(sorted(lemma for lemma in found if lemma.lower() != word.lower()))


def synonym_views(texts: list[str], p: float = paper.REPLACED, seed: int = 0) -> list[str]:
    """One view of each text: a share p of the words that have a synonym, at least one, gets one at random.

    texts: K texts; returns K views in the same order. Each view is drawn from (seed, text) alone, so it
    does not depend on its neighbours. A text without such a word comes back as it is.
    Raises ValueError for p outside [0, 1].
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p: expected a share in [0, 1], found {p}")
    return [_view(text, p, random.Random(f"{seed}\0{text}")) for text in texts]


def _view(text: str, p: float, rng: random.Random) -> str:
    candidates = [match for match in WORD.finditer(text) if synonyms(match.group().lower())]
    count = min(len(candidates), max(1, round(p * len(candidates)))) if p else 0
    for match in sorted(rng.sample(candidates, count), key=lambda m: -m.start()):
        synonym = rng.choice(synonyms(match.group().lower()))
        if match.group()[0].isupper():
            synonym = synonym[0].upper() + synonym[1:]
        text = text[:match.start()] + synonym + text[match.end():]
    return text
