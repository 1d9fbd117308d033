"""Augmented views: a copy of a text with some words replaced by WordNet synonyms (section 4.2)."""

import bz2
import contextlib
import hashlib
import json
import random
import re
import string
from collections import Counter, defaultdict
from functools import cache, reduce

from lclkit import files, paper, sources

RECIPES = ("paper", "released", "clean")
VIEWS_VERSION = 1  # raise it when the same arguments would give other views
KEPT_FROM = 1000  # texts; the views of fewer are not worth a file
WORD = re.compile(r"[A-Za-z]+(?:[-'][A-Za-z]+)*")
TOKEN = re.compile(r"\w+|[^\w\s]")  # from here to SPACING: of "released"
DETERMINERS = frozenset(
    "a all an another any both each either every neither no some that the these this those".split()
)
PREPOSITIONS = frozenset(
    "about above after around as at before behind by in like near on over through while".split()
)
CAPITALISED = re.compile("[A-Z]([^A-Z]*[a-z][^A-Z]*)?")
SPACING = (
    (r" ([.,:;?!%]+[ '\"`])", r"\1"),
    (r" ([.,:;?!%]+)$", r"\1"),
    (r" ([\[({<]) ", r" \1"),
    (r" ([\])}>]) ", r"\1 "),
)
STAY = frozenset(
    "did does doing don getting gets got having just let lets ones somebody u ur yes".split()
)  # "clean"
ENDINGS = (
    (r"(?<=[^aeiou])y\+s", "ies"),
    (r"(s|x|z|ch|sh|^go|^do)\+s", r"\1es"),
    (r"(?<=[^aeiou])y\+ed", "ied"),
    (r"e\+ed", "ed"),
    (r"(?<=[^eoy])e\+ing", "ing"),
    (r"\+", ""),
)
UNSURE = re.compile(
    ".*(man|sheep|deer|cast|cost|hurt|burst|spread|read|thrust)"
)  # irregular, though not in WordNet


@cache
def synonyms(word: str) -> tuple[str, ...]:
    """All WordNet lemmas that share a synset with a word, itself left out; sorted, () where there are none."""
    found = {lemma.replace("_", " ") for _, lemmas in _synsets(word.lower()) for lemma in lemmas}
    return tuple(sorted(lemma for lemma in found if lemma.lower() != word.lower()))


def synonym_views(
    texts: list[str], p: float = paper.REPLACED, seed: int | str = 0, recipe: str = "paper"
) -> list[str]:
    """One view of each text, its synonyms drawn at random from (seed, text) alone, so not from its neighbours.

    texts: K texts; returns K views in the same order. The views of a long list are kept in the user's cache.
    "paper" replaces a share p of the words that have a synonym, at least one. "clean" does too, but stop words,
    pronouns and one-letter words stay, and a synonym takes over inflection and capitals where that can be done.
    "released" is what the authors' code gets from nlpaug 1.1.0: int(p * tokens) tokens, but at least 1 and at most 10,
    are drawn from all but determiners and punctuation; of them, those without a synonym stay; all spaces are set anew
    ("wasn ' t"). nlpaug tags parts of speech. Here determiners and prepositions (which it looks up as adjectives)
    are word lists, and other words are looked up as every part of speech, so a few more are replaced.
    Raises ValueError for p outside [0, 1] or an unknown recipe.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p: expected a share in [0, 1], found {p}")
    if recipe not in RECIPES:
        raise ValueError(f"recipe: expected one of {RECIPES}, found {recipe!r}")
    texts, view = list(texts), _released_view if recipe == "released" else _view
    key = hashlib.sha256(repr((VIEWS_VERSION, recipe, p, seed, texts)).encode()).hexdigest()
    file = files.cache_folder() / "views" / f"{key}.json.bz2"
    with contextlib.suppress(OSError, ValueError):  # none yet, or damaged: bz2 has a checksum
        return json.loads(bz2.decompress(file.read_bytes()))
    rngs = (random.Random(f"{seed}\0{text}".encode("utf-8", "surrogatepass")) for text in texts)
    views = [view(text, p, rng, recipe) for text, rng in zip(texts, rngs, strict=True)]
    if len(texts) >= KEPT_FROM:
        with (
            contextlib.suppress(OSError),
            files.whole(file) as unfinished,
        ):  # no place to write to is no harm
            unfinished.write_bytes(bz2.compress(json.dumps(views).encode()))
    return views


def coverage(texts: list[str]) -> float:
    """Share in [0, 1] of the tokens of "released", punctuation included, that WordNet knows; 0 without tokens.

    The paper does not define its figures (section 4.2). Of those tried, this definition comes nearest: the training
    texts as the authors' code cleans them give 69.5 % for EmpatheticDialogues, SST-2 and SST-5 (paper: ~69), 65.8 for
    ISEAR (~66), 61.9 for EmoInt (~62), 61.0 for GoEmotions (~61). It does not ask for a synonym.
    """
    tokens = Counter(token.lower() for text in texts for token in TOKEN.findall(text))
    return sum(n for token, n in tokens.items() if _synsets(token)) / max(1, tokens.total())


def _synsets(word: str, parts: str = "nvar") -> list[tuple[str, list[str]]]:
    """Part of speech and lemmas of each synset of a word in small letters, or of what it may be a form of."""
    found = []
    for part in parts:
        index, synsets, bases, _ = _database(part)
        rules = sources.wordnet().MORPHOLOGICAL_SUBSTITUTIONS[part]
        forms = bases.get(word) or [
            word.removesuffix(old) + new for old, new in rules if word.endswith(old)
        ]
        for columns in (
            index[form].split() for form in dict.fromkeys([word, *forms]) if form in index
        ):
            for offset in map(int, columns[-int(columns[2]) :]):
                lemmas = synsets[offset + 17 : offset + 2000].split(
                    " ", 2 * int(synsets[offset + 14 : offset + 16], 16)
                )
                found.append((part, [lemma.partition("(")[0] for lemma in lemmas[:-1:2]]))
    return found


@cache
def _database(part: str) -> tuple[dict[str, str], str, dict[str, list[str]], dict[str, list[str]]]:
    """Of a part of speech: WordNet's index, the text of its synsets, irregular forms and what they come from, and
    the reverse (with forms like "stopped"). NLTK's synset objects tell the same, but take far longer to make."""
    name = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}[part]
    index, synsets, exceptions = (
        sources.wordnet().open(file.format(name)).read()
        for file in ("index.{}", "data.{}", "{}.exc")
    )
    bases, forms = {}, defaultdict(list)
    for form, *lemmas in map(str.split, exceptions.splitlines()):
        bases[form] = lemmas
        for lemma in lemmas:
            forms[lemma].append(form)
    return (
        {line.split(" ", 1)[0]: line for line in index.splitlines() if line[:1] > " "},
        synsets,
        bases,
        forms,
    )


def _view(text: str, p: float, rng: random.Random, recipe: str) -> str:
    choices = synonyms if recipe == "paper" else _inflected_synonyms
    candidates = [match for match in WORD.finditer(text) if choices(match.group().lower())]
    count = min(len(candidates), max(1, round(p * len(candidates)))) if p else 0
    pieces, end = [], len(text)
    for match in sorted(rng.sample(candidates, count), key=lambda m: -m.start()):
        synonym, word = rng.choice(choices(match.group().lower())), match.group()
        if word[0].isupper():
            synonym = (
                synonym.upper()
                if recipe == "clean" and word.isupper()
                else synonym[0].upper() + synonym[1:]
            )
        pieces += text[match.end() : end], synonym
        end = match.start()
    return text[:end] + "".join(reversed(pieces))


@cache
def _inflected_synonyms(word: str) -> tuple[str, ...]:
    """Single words in small letters. Lemmas of a synset that does not name the word itself get its inflection."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    if len(word) == 1 or word in ENGLISH_STOP_WORDS or word in STAY:
        return ()
    found = set()
    for part, names in _synsets(word):
        lemmas = {lemma for lemma in names if lemma.isalpha() and lemma.islower()}
        if word not in map(str.lower, names):
            lemmas = {
                _inflect(lemma, part, _ending(word, part)) for lemma in lemmas if part in "nv"
            }
        found |= lemmas
    return tuple(sorted(found - {word, None}))


@cache
def _inflect(lemma: str, part: str, ending: str) -> str | None:
    """A noun or verb with an ending; None where the form is unsure (does "went" ask for "took" or for "taken"?)."""
    irregular = _database(part)[3].get(lemma, ())
    forms = [form for form in irregular if _ending(form, part) == ending]
    if (
        forms or UNSURE.fullmatch(lemma) or (irregular and ending == "ed")
    ):  # put: has "putting", lacks its past
        return forms[0] if len(forms) == 1 else None
    return reduce(lambda form, rule: re.sub(*rule, form), ENDINGS, f"{lemma}+{ending}")


def _ending(form: str, part: str) -> str:
    return "s" if part == "n" or form.endswith("s") else "ing" if form.endswith("ing") else "ed"


def _released_view(text: str, p: float, rng: random.Random, _) -> str:
    tokens = TOKEN.findall(text)
    drawable = [
        i
        for i, t in enumerate(tokens)
        if t not in string.punctuation and t.lower() not in DETERMINERS
    ]
    if not drawable:
        return text.strip()
    for i in sorted(
        rng.sample(drawable, min(len(drawable), 10, max(1, int(p * len(tokens)))) if p else 0)
    ):
        if choices := _released_synonyms(tokens[i].lower()):
            synonym = rng.choice(choices)
            tokens[i] = synonym.capitalize() if CAPITALISED.fullmatch(tokens[i]) else synonym
    return reduce(lambda some, rule: re.sub(*rule, some), SPACING, " ".join(tokens)).strip()


@cache
def _released_synonyms(token: str) -> list[str]:
    """Each lemma as often as it shares a synset with the token; in small letters, hyphens and underscores opened."""
    synsets = _synsets(token, "a" if token in PREPOSITIONS else "nvar")
    return [
        re.sub("[_-]", " ", lemma).lower()
        for _, lemmas in synsets
        for lemma in lemmas
        if lemma.lower() != token
    ]
