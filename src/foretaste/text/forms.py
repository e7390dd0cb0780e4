"""The form of a text, whatever it says: capitals, lists, marks, scripts, and how it begins and ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.text.kernels import kernel

FORMS = (
    "capitals", "an opening capital", "a list", "marks as of code", "letters of another script", "emoji",
    "a closing question", "a closing full stop", "an opening bracket",
)  # fmt: skip
_MARKS = np.zeros(256, np.float64)
_MARKS[np.frombuffer(b'{}[]()<>=;_/\\|&$#@^~`+*"', np.uint8)] = 5.0  # where a fifth of a text is marks, it is all code
_OPENING = np.zeros(256, np.bool_)
_OPENING[np.frombuffer(b"{[(<`\"'|#", np.uint8)] = True


@kernel
def _emoji(data, at, stop):
    """Whether a pictograph of the planes beyond the first, or of the blocks U+2600 to U+27BF, begins here."""
    if data[at] == 0xF0:
        return at + 1 < stop and data[at + 1] == 0x9F
    return data[at] == 0xE2 and at + 1 < stop and 0x98 <= data[at + 1] <= 0x9E


@kernel
def _marker(data, at, stop):
    """Whether a line begins as an item of a list: with a dash, an asterisk, a bullet, or a number with a stop or bracket."""
    if data[at] == 45 or data[at] == 42 or data[at] == 43:
        return at + 1 < stop and data[at + 1] == 32
    if data[at] == 0xE2:
        return at + 2 < stop and data[at + 1] == 0x80 and data[at + 2] == 0xA2
    digits = at
    while digits < stop and 48 <= data[digits] <= 57:
        digits += 1
    stopped = at < digits < min(stop - 1, at + 4) and (data[digits] == 46 or data[digits] == 41)
    return stopped and data[digits + 1] == 32


@kernel
def _forms(data, offsets, places, marks, opening, out):
    """See :func:`forms`; ``marks`` float64 (256,) weighs the bytes that code is full of, ``opening`` bool (256,) says which
    open a bracket or a quotation."""
    last = -1
    for j in range(len(places)):
        row = places[j]
        if row == last:
            for f in range(out.shape[1]):
                out[j, f] = out[j - 1, f]
            continue
        last = row
        start, stop = offsets[row], offsets[row + 1]
        upper = lower = filled = other = lines = items = 0
        marked = 0.0
        pictured = False
        initial = -1
        first = last_byte = np.uint8(0)
        fresh = True
        for at in range(start, stop):
            byte = data[at]
            if byte == 10:
                fresh = True
            if byte <= 32:
                continue
            if fresh:
                lines += 1
                items += _marker(data, at, stop)
                fresh = False
            if filled == 0:
                first = byte
            filled += 1
            last_byte = byte
            marked += marks[byte]
            if 65 <= byte <= 90:
                upper += 1
            elif 97 <= byte <= 122:
                lower += 1
            elif byte >= 128:
                other += 1
                pictured = pictured or _emoji(data, at, stop)
            if initial < 0 and upper + lower:
                initial = upper
        out[j, 0] = upper / max(1, upper + lower)
        out[j, 1] = max(0, initial)
        out[j, 2] = items / max(2, lines)
        out[j, 3] = min(1.0, marked / max(1, filled))
        out[j, 4] = other / max(1, filled)
        out[j, 5] = pictured
        out[j, 6] = last_byte == 63
        out[j, 7] = last_byte == 46 or last_byte == 33
        out[j, 8] = opening[first] and filled > 0


def forms(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    places: npt.NDArray[np.int64],
    out: npt.NDArray[np.float64],
) -> None:
    """The forms of some texts into ``out`` float64 (places, FORMS), each from 0 to 1.

    Args:
        data: UTF-8 bytes.
        offsets: where each row begins in them, (rows + 1,).
        places: rows, (places,); one may come several times.
        out: shares of letters with a case, of lines that are not blank or of bytes that are no blanks; or 0 and 1.
    """
    kernel: Any = _forms
    kernel(data, offsets, places, _MARKS, _OPENING, out)
