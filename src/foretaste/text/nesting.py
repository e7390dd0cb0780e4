"""How deep JSON is nested."""

from __future__ import annotations

import numpy as np

from foretaste.text.kernels import kernel

_QUOTE, _BACKSLASH, _OPEN, _CLOSE = ord('"'), ord("\\"), (ord("["), ord("{")), (ord("]"), ord("}"))


@kernel
def _deepest(raw):
    depth = most = 0
    quoted = escaped = False
    for byte in raw:
        if quoted:
            if escaped:
                escaped = False
            elif byte == _BACKSLASH:
                escaped = True
            elif byte == _QUOTE:
                quoted = False
        elif byte == _QUOTE:
            quoted = True
        elif byte == _OPEN[0] or byte == _OPEN[1]:
            depth += 1
            most = max(most, depth)
        elif byte == _CLOSE[0] or byte == _CLOSE[1]:
            depth -= 1
    return most


def deepest(raw: bytes) -> int:
    """Most levels of lists and objects that any place of some JSON lies in; strings are passed by."""
    return int(_deepest(np.frombuffer(raw, np.uint8)))
