"""Sentences per second of the three recipes beside nlpaug's SynonymAug, by turns on the same texts.

    python benchmarks/augmentation.py [DATASET]        (default: supersense; any name or .csv file that lclkit loads)

nlpaug is not among our dependencies; without it, its row is left out. To have it, give it a folder of its own:

    pip install --target FOLDER --no-deps nlpaug==1.1.11 gdown requests
    PYTHONPATH=FOLDER python benchmarks/augmentation.py

It gets a stub for NLTK's tagger, which would add to its time: our lists of determiners and prepositions.
Cold: both programs, and NLTK below, have forgotten all words before the turn; warm: the same texts once more. The
3 s that NLTK takes to load WordNet are in no number. Time is the processor's, so a busy machine matters less.
"""

import contextlib
import statistics
import sys
import time
from functools import partial

from lclkit import augment, data, sources

TEXTS, ROUNDS, CHUNK = (
    5000,
    3,
    500,
)  # chunks are shorter than augment.KEPT_FROM, so no view comes from the disk


def nlpaug_views():
    import nltk
    from nlpaug.augmenter.word import SynonymAug

    tags = dict.fromkeys(augment.DETERMINERS, "DT") | dict.fromkeys(augment.PREPOSITIONS, "IN")
    nltk.pos_tag = lambda tokens: [(token, tags.get(token.lower(), "X")) for token in tokens]
    return SynonymAug(aug_src="wordnet").augment


def forget() -> None:
    for function in (
        augment.synonyms,
        augment._inflected_synonyms,
        augment._released_synonyms,
        augment._inflect,
        augment._database,
    ):
        function.cache_clear()
    for synsets in sources.wordnet()._synset_offset_cache.values():
        synsets.clear()


def seconds(views, texts) -> float:
    start = time.process_time()
    for i in range(0, len(texts), CHUNK):
        views(texts[i : i + CHUNK])
    return time.process_time() - start


def main(name: str = "supersense") -> None:
    texts = list(data.load(name).train.sample(frac=1, random_state=0).text)
    ways = {recipe: partial(augment.synonym_views, recipe=recipe) for recipe in augment.RECIPES}
    ways["clean"](["once, so that scikit-learn is loaded"])
    with contextlib.suppress(ImportError):
        ways = {"nlpaug": nlpaug_views()} | ways
    rounds = [texts[i : i + TEXTS] for i in range(0, min(len(texts), TEXTS * ROUNDS), TEXTS)]
    speeds = {(way, state): [] for way in ways for state in ("cold", "warm")}
    for some in rounds:
        for way, views in ways.items():
            forget()
            for state in ("cold", "warm"):
                speeds[way, state].append(len(some) / seconds(views, some))
    print(
        f"{name}: {len(rounds)} rounds of {len(rounds[0]):,} texts; sentences per second, median (lowest to highest)"
    )
    for (way, state), found in speeds.items():
        median = statistics.median(found)
        ratio = (
            f"{median / statistics.median(speeds['nlpaug', state]):6.1f} x nlpaug"
            if "nlpaug" in ways
            else ""
        )
        print(
            f"{way:10}{state:6}{median:8,.0f}  {f'({min(found):,.0f} to {max(found):,.0f})':20}{ratio}"
        )
    for recipe in augment.RECIPES:
        forget()
        print(
            f"all {len(texts):,} training texts, {recipe}, from cold: {seconds(ways[recipe], texts):.1f} s"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
