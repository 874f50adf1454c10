"""What is shown of many pictures of one size, mirrored or not: copied by one call of windows.c, where it was built.

Without it nothing is different but the speed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.kernels import MUCH
from loader_service.dataset.transforms.geometry.mirroring import flipped, kernel
from loader_service.dataset.transforms.geometry.moves import Cuts, Mirror, Mirrors
from loader_service.protocol.arena import address_of


class Windows:
    """The part of each picture that crops and mirrors leave; in pixels.

    >>> windows = Windows(1, height=5, width=7)
    >>> windows.follow(Mirrors(np.array([True]), np.array([False])))
    >>> windows.follow(Cuts(np.array([1]), np.array([0]), height=4, width=6))
    >>> windows.places.tolist(), windows.height, windows.width
    ([[1, 1, 1, 0]], 4, 6)
    """

    def __init__(self, count: int, height: int, width: int) -> None:
        """Begin with all of each picture."""
        self.height, self.width = height, width
        self.places = np.zeros((count, 4), np.int64)  # top, left, mirrored left-right, mirrored top-bottom

    def follow(self, move: Cuts | Mirrors) -> None:
        """Do one more move to each."""
        places = self.places
        if isinstance(move, Mirrors):
            places[:, 2] ^= move.left_right
            places[:, 3] ^= move.top_bottom
            return
        top, left, height, width = move  # cut first, and mirror what is left
        places[:, 0] += np.where(places[:, 3], self.height - top - height, top)
        places[:, 1] += np.where(places[:, 2], self.width - left - width, left)
        self.height, self.width = height, width

    def copy(self, pictures: np.ndarray, ids: NDArray[np.int64], out: np.ndarray, *, read_later: bool = False) -> None:
        """Write the parts of `pictures[ids]` to `out`, which lies elsewhere.

        Args:
            pictures: Of shape (any number, height, width, channels), as they were before all moves.
            out: Of shape (count, height, width, channels), as they are after them.
            read_later: When a trainer comes to this batch, not before.
        """
        copy = kernel()
        if copy is None or not (pictures.flags.c_contiguous and out.flags.c_contiguous):
            self.copy_singly(pictures, ids, out)
            return
        _, height, width, channels = pictures.shape
        pixel = channels * pictures.itemsize
        ids = np.ascontiguousarray(ids)
        which = address_of(ids), address_of(self.places), len(ids)
        past_caches = read_later and out.nbytes >= MUCH
        copy(address_of(pictures), height, width, pixel, *which, *out.shape[1:3], address_of(out), past_caches)

    def copy_singly(self, pictures: np.ndarray, ids: NDArray[np.int64], out: np.ndarray) -> None:
        """Do the same, picture by picture."""
        for row, (number, window) in enumerate(zip(ids.tolist(), self.places.tolist(), strict=True)):
            top, left, left_right, top_bottom = window
            part = pictures[number, top : top + self.height, left : left + self.width]
            target = out[row]
            made = flipped(part, Mirror(bool(left_right), bool(top_bottom)), target)
            if made is not target:
                target[...] = made
