"""Sorting, searching and spread of short arrays in kernels: numba's own cost most of a second of compilation per type."""

from __future__ import annotations

import numpy as np

from foretaste.text.kernels import kernel


@kernel
def sort_small(items):
    """Sort an integer array in place (Shell 1959, gaps after Tokuda 1992), as ``items.sort()`` does.

    For the tokens of one row and the like: beyond some ten thousand items ``numpy.sort`` outside of a kernel is faster.
    """
    gap = 1
    while gap < len(items):
        gap = gap * 9 // 4 + 1
    while gap > 1:
        gap = gap * 4 // 9 if gap > 4 else 1
        for i in range(gap, len(items)):
            item = items[i]
            j = i
            while j >= gap and items[j - gap] > item:
                items[j] = items[j - gap]
                j -= gap
            items[j] = item


@kernel
def distinct(items, n):
    """Sort the first ``n`` items and move the distinct ones to the front; returns how many."""
    sort_small(items[:n])
    m = 0
    for i in range(n):
        if i == 0 or items[i] != items[m - 1]:
            items[m] = items[i]
            m += 1
    return m


@kernel
def find(ordered, item):
    """The place of an item in a sorted array, -1 where it is not in there."""
    low = 0
    high = len(ordered)
    while low < high:
        middle = (low + high) // 2
        if ordered[middle] < item:
            low = middle + 1
        else:
            high = middle
    return low if low < len(ordered) and ordered[low] == item else -1


@kernel
def z_of_last(values):
    """How many standard deviations the last value lies above the mean of those before it."""
    n = len(values) - 1
    mean = 0.0
    for i in range(n):
        mean += values[i]
    mean /= n
    square = 0.0
    for i in range(n):
        square += (values[i] - mean) ** 2
    return (values[n] - mean) / (np.sqrt(square / n) + 1e-9)
