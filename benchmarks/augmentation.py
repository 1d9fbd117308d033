"""Sentences per second of the two recipes beside nlpaug's SynonymAug, by turns on the same texts.

    python benchmarks/augmentation.py [DATASET]

DATASET is supersense, if nothing else is said; any name or .csv file that lclkit loads will do.
nlpaug is not among our dependencies; without it, its row is left out. To have it, give it a folder
of its own:

    pip install --target FOLDER --no-deps nlpaug==1.1.11 gdown requests
    PYTHONPATH=FOLDER python benchmarks/augmentation.py

It gets a stub for NLTK's tagger, which would add to its time: our lists of determiners and
prepositions. Cold: both programs, and NLTK below, have forgotten all words before the turn; warm:
the same texts once more. The 3 s that NLTK takes to load WordNet are in no number. Time is the
processor's, so a busy machine matters less.
"""

import contextlib
import statistics
import sys
import time
from functools import partial

from lclkit import augment, data, sources

TEXTS = 5000  # of a round
ROUNDS = 3


def nlpaug_views():
    import nltk
    from nlpaug.augmenter.word import SynonymAug

    tags = dict.fromkeys(augment.NLPAUG["determiners"], "DT")
    tags |= dict.fromkeys(augment.NLPAUG["prepositions"], "IN")
    nltk.pos_tag = lambda tokens: [(token, tags.get(token.lower(), "X")) for token in tokens]
    return SynonymAug(aug_src="wordnet").augment


def forget() -> None:
    for function in (augment.synonyms, augment.synonyms_of_token):
        function.cache_clear()
    for synsets in sources.wordnet()._synset_offset_cache.values():
        synsets.clear()


def seconds(views, texts) -> float:
    start = time.process_time()
    views(texts)
    return time.process_time() - start


def main(name: str = "supersense") -> None:
    texts = list(data.load(name).train.sample(frac=1, random_state=0).text)
    sources.wordnet().synsets("dog")  # loads it
    ways = {recipe: partial(augment.synonym_views, recipe=recipe) for recipe in augment.RECIPES}
    with contextlib.suppress(ImportError):
        ways = {"nlpaug": nlpaug_views()} | ways
    rounds = [texts[i : i + TEXTS] for i in range(0, min(len(texts), TEXTS * ROUNDS), TEXTS)]
    speeds = {(way, state): [] for way in ways for state in ("cold", "warm")}
    for part in rounds:
        for way, views in ways.items():
            forget()
            for state in ("cold", "warm"):
                speeds[way, state].append(len(part) / seconds(views, part))
    print(f"{name}: {len(rounds)} rounds of {len(rounds[0]):,} texts; sentences per second,")
    print("median (lowest to highest)")
    for (way, state), found in speeds.items():
        median = statistics.median(found)
        ratio = ""
        if "nlpaug" in ways:
            ratio = f"{median / statistics.median(speeds['nlpaug', state]):6.1f} x nlpaug"
        spread = f"({min(found):,.0f} to {max(found):,.0f})"
        print(f"{way:10}{state:6}{median:8,.0f}  {spread:20}{ratio}")
    for recipe in augment.RECIPES:
        forget()
        whole = seconds(ways[recipe], texts)
        print(f"all {len(texts):,} training texts, {recipe}, from cold: {whole:.1f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
