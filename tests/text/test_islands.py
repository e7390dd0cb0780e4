"""Islands against a plain search over all pairs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from foretaste.text.islands import LARGEST, MOST_ROWS, find_islands


def plain(texts: list[set[int]], gap: float) -> set[tuple[int, ...]]:
    """Every group of rows whose members are each other's nearest, by definition."""
    holders = {w: [i for i, t in enumerate(texts) if w in t] for w in set().union(*texts)}
    weight = {w: np.log(len(texts) / len(r)) for w, r in holders.items() if 2 <= len(r) <= MOST_ROWS}
    matrix = np.zeros((len(texts), len(holders)))
    for column, (w, rows) in enumerate(holders.items()):
        matrix[rows, column] = weight.get(w, 0.0)
    matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-9)
    cosine: npt.NDArray[np.float64] = matrix @ matrix.T
    np.fill_diagonal(cosine, -1.0)
    found = set()
    for i in range(len(texts)):
        order = np.argsort(-cosine[i], kind="stable")
        for size in range(2, LARGEST + 1):
            members = {i, *order[: size - 1].tolist()}
            if all(
                cosine[m][list(members - {m})].min() > 0
                and cosine[m][list(members - {m})].min() >= gap * max(0.0, np.sort(cosine[m])[::-1][size - 1])
                for m in members
            ):
                found.add(tuple(sorted(members)))
    return found


def test_the_islands_are_those_of_a_plain_search() -> None:
    rng = np.random.default_rng(5)
    texts = [set(rng.integers(0, 400, rng.integers(5, 15)).tolist()) for _ in range(120)]
    for size in (2, 3, 4, 7, 12):
        core = rng.integers(1000 * size, 1000 * size + 12, 12)
        texts += [{*rng.choice(core, 8).tolist(), *rng.integers(0, 400, 3).tolist()} for _ in range(size)]
    words = np.concatenate([np.array(sorted(t), np.uint64) for t in texts])
    rows = np.repeat(np.arange(len(texts)), [len(t) for t in texts]).astype(np.int32)
    islands = find_islands(words, rows, len(texts), 1.3)
    found = {tuple(members.tolist()) for members in islands}
    assert found == plain(texts, 1.3)
    assert len(found) == len(islands.sizes) >= 4


def test_a_word_of_all_documents_makes_none_near() -> None:
    words = np.tile(np.arange(40, dtype=np.uint64), 3)
    islands = find_islands(words, np.repeat(np.arange(3, dtype=np.int32), 40), 3, 1.5)
    assert len(islands.sizes) == 0
