"""How usual a word is spelt, by the words of the text itself."""

from __future__ import annotations

import bisect
import math
import re
from collections import Counter

import numpy as np

# Alphabets by their last code point; beyond stand syllabaries and ideographs, of which a trigram model knows nothing.
_ALPHABETS = (0x024F, 0x052F, 0x07FF, 0x0DFF)


def _alphabet(word: str) -> int:
    """Index of the alphabet that holds all of the word, or the number of alphabets."""
    return bisect.bisect_left(_ALPHABETS, max(map(ord, word)))


def alphabetic(word: str) -> bool:
    """Whether a word is written in letters, rather than in syllables or ideographs."""
    return bool(word) and _alphabet(word) < len(_ALPHABETS)


class Spelling:
    """How usual the spelling of a word is: a character trigram model of the text's own words (letters only)."""

    def __init__(self, words: list[str]) -> None:
        self.trigrams: Counter[str] = Counter()
        self.bigrams: Counter[str] = Counter()
        for word in words:
            padded = f"^^{word}$"
            self.trigrams.update(padded[i - 2 : i + 1] for i in range(2, len(padded)))
            self.bigrams.update(padded[i - 2 : i] for i in range(2, len(padded)))
        self.alphabet = max(1, len({c for t in self.trigrams for c in t}))
        self.known = set(words)
        by_alphabet: dict[int, list[float]] = {}
        for word in words:
            by_alphabet.setdefault(_alphabet(word), []).append(self._score(word))
        self.scores = {a: np.sort(scores) for a, scores in by_alphabet.items()}

    def rank(self, phrase: str) -> float:
        """Share of the vocabulary of its alphabet spelt less likely than the least likely word of the phrase, 0 to 1.

        One where the text has fewer than a hundred words to learn from, and for scripts without an alphabet and phrases
        without a word.
        """
        scores = self.scores.get(_alphabet(phrase), np.zeros(0))
        if len(scores) < 100 or not alphabetic(phrase):
            return 1.0
        worst = min((self._score(w) for w in re.findall(r"[\w'’]+", phrase)), default=math.inf)
        return float(np.searchsorted(scores, worst) / len(scores))

    def _score(self, word: str) -> float:
        padded = f"^^{word}$"
        own = 1 if word in self.known else 0
        total = 0.0
        for i in range(2, len(padded)):
            seen = max(0, self.trigrams[padded[i - 2 : i + 1]] - own)
            before = max(0, self.bigrams[padded[i - 2 : i]] - own)
            total += math.log((seen + 0.1) / (before + 0.1 * self.alphabet))
        return total / (len(padded) - 2)
