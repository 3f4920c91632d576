"""Undo the XOR that every client applies to its frames.

It touches every byte that a client sends, so it is the one routine here that is worth C:
`websockets` ships it. Where its wheel has no C (PyPy, rare platforms), integers as long as
the payload do the same in Python.

Source: RFC 6455 section 5.3.
"""

import sys
from collections.abc import Callable


def mask_in_python(data: bytes, mask: bytes) -> bytes:
    """Give `data` XOR the four bytes of `mask`, repeated; twice gives `data` again.

    >>> mask_in_python(mask_in_python(b"Hello", b"abcd"), b"abcd")
    b'Hello'
    """
    size = len(data)
    repeated = (mask * (size // 4 + 1))[:size]
    xored = int.from_bytes(data, sys.byteorder) ^ int.from_bytes(repeated, sys.byteorder)
    return xored.to_bytes(size, sys.byteorder)


apply_mask: Callable[[bytes, bytes], bytes]
try:
    from websockets.speedups import apply_mask
except ImportError:
    apply_mask = mask_in_python

__all__ = ["apply_mask", "mask_in_python"]
