"""What the nearest neighbours of an embedded row say of its label, and which rows are paraphrases."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

NEIGHBOURS = 15
_STRENGTHS = np.geomspace(0.5, 4.0, 13)
_NOISE = 0.05
_CHUNK = 512

Floats = npt.NDArray[np.float64]


def votes(
    vectors: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int32],
    base: Floats,
    groups: npt.NDArray[np.int64],
    at: npt.NDArray[np.int64],
) -> Floats:
    """Log-probability of every class for the rows ``at``, shape (len(at), classes), from their nearest neighbours.

    The 15 nearest rows vote with their cosine; a row of one's own group (``groups``, int64 (rows,)) has no vote. One
    vote is spread like the base rates.
    """
    out = np.empty((len(at), len(base)))
    for start in range(0, len(at), _CHUNK):
        mine = at[start : start + _CHUNK]
        near = vectors[mine] @ vectors.T
        near[groups[mine][:, None] == groups[None, :]] = -1.0
        k = min(NEIGHBOURS, near.shape[1])
        best = np.argpartition(-near, k - 1, axis=1)[:, :k]
        weights = np.maximum(np.take_along_axis(near, best, axis=1), 0.0).astype(np.float64)
        part = np.tile(base, (len(mine), 1))
        np.add.at(part, (np.arange(len(mine))[:, None], labels[best]), weights)
        out[start : start + len(mine)] = np.log(part / part.sum(axis=1, keepdims=True))
    return out


def temper(logs: Floats, strength: float) -> Floats:
    """Log-probabilities raised to a power and normalised again, shape (rows, classes)."""
    raised = logs * strength
    raised -= raised.max(axis=1, keepdims=True)
    tempered: Floats = raised - np.log(np.exp(raised).sum(axis=1, keepdims=True))
    return tempered


def calibrate(logs: Floats, labels: npt.NDArray[np.int32]) -> float:
    """The power that makes the labels most probable, if one in twenty of them is drawn by lot.

    Without that lot a few flipped labels would talk the votes of all neighbours down.
    """
    every, noise = np.arange(len(labels)), _NOISE / max(1, logs.shape[1])
    fits = [float(np.log((1 - _NOISE) * np.exp(temper(logs, s)[every, labels]) + noise).mean()) for s in _STRENGTHS]
    return float(_STRENGTHS[int(np.argmax(fits))])


def paraphrases(vectors: npt.NDArray[np.float32], similarity: float, least: int) -> list[npt.NDArray[np.int64]]:
    """Groups of at least ``least`` rows whose mean cosine is at least ``similarity`` (average linkage), positions.

    Only rows that are linked at all are clustered, so that the cost is that of the matrix of cosines.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from sklearn.cluster import AgglomerativeClustering

    rows: list[npt.NDArray[np.int64]] = []
    columns: list[npt.NDArray[np.int64]] = []
    for start in range(0, len(vectors), _CHUNK):
        r, c = np.nonzero(vectors[start : start + _CHUNK] @ vectors.T >= similarity)
        rows.append(r + start)
        columns.append(c)
    r, c = np.concatenate(rows), np.concatenate(columns)
    linked = coo_array((np.ones(len(r), np.int8), (r, c)), shape=(len(vectors), len(vectors)))
    count, component = connected_components(linked, directed=False)
    found = []
    for one in np.flatnonzero(np.bincount(component, minlength=count) >= least).tolist():
        members = np.flatnonzero(component == one)
        distance = np.maximum(0.0, 1.0 - (vectors[members] @ vectors[members].T).astype(np.float64))
        parts = AgglomerativeClustering(
            n_clusters=None, metric="precomputed", linkage="average", distance_threshold=1.0 - similarity
        ).fit_predict(distance)
        found += [members[parts == p] for p in range(int(parts.max()) + 1) if (parts == p).sum() >= least]
    return sorted(found, key=lambda g: int(g[0]))
