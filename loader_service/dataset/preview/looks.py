"""What a value looks like: a picture, a volume, lines; a mask over another field; a label. Nothing is drawn here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["picture", "planes", "lines", "bars"]

MOST_BARS = 32  # entries of a vector; a longer one is a line
MOST_LINES = 12  # channels of a series; what has more is a picture
LEAST_SIDE = 8  # pixels that channels-first pictures have, at least, along the other axes
MOST_CLASSES = 64  # of a mask
MOST_SEEN = 1 << 24  # values of a volume that are looked at to find their range; of more, those that are drawn
DARK = 32  # of bytes that are all below it, the range is shown: digits of 0..16 are black otherwise
MASK_WORDS = ("mask", "segmentation")
LABELS = ("label", "y")
CHANNELS = (1, 3, 4)  # of a picture
PLANES = 3  # that are shown of a volume or a film


def kind_of(value: np.ndarray, *, series: bool = False) -> Kind | None:
    """Return how a value is drawn; None, if it is not.

    Args:
        series: The first axis is time.

    >>> [kind_of(np.zeros(shape)) for shape in [(8, 8, 3), (28, 28), (9, 9, 9), (100, 2), (500,), (10,), ()]]
    ['picture', 'picture', 'planes', 'lines', 'lines', 'bars', None]
    """
    shape = value.shape
    if not shape or value.size < 2 or not is_number(value):
        return None
    if len(shape) == 1:
        return "bars" if len(value) <= MOST_BARS and not series else "lines"
    if len(shape) == 2:
        steps, channels = shape
        return "lines" if channels <= MOST_LINES and (series or steps >= 2 * channels) else "picture"
    if len(shape) == 3:
        return "picture" if shape[-1] in CHANNELS or _channels_first(shape) else "planes"
    return "planes" if len(shape) == 4 else None


def is_number(value: np.ndarray) -> bool:
    """Whether it holds real numbers; bfloat16's are, which NumPy itself does not know."""
    return value.dtype.kind in "biuf" or value.dtype.name == "bfloat16"


def picture_of(value: np.ndarray) -> np.ndarray:
    """Return a picture as (height, width, channels)."""
    if value.ndim == 2:
        return value[:, :, None]
    return np.moveaxis(value, 0, -1) if value.shape[-1] not in CHANNELS else value


def planes_of(value: np.ndarray) -> list[np.ndarray]:
    """Return pictures (height, width, channels) that stand for a volume, or a film.

    Of a volume the middle slices along its three axes; of a film, which has three colours, the first, middle and last
    frame; of a picture with other numbers of channels, the first of these.

    >>> [plane.shape for plane in planes_of(np.zeros((4, 5, 6)))]
    [(5, 6, 1), (4, 6, 1), (4, 5, 1)]
    """
    if _is_film(value):
        return [value[frame] for frame in _frames(len(value))]
    if _has_other_channels(value):
        return [value[..., channel, None] for channel in range(min(PLANES, value.shape[-1]))]
    return [plane[..., None] for plane in _middle_slices(_volume_of(value))]


def seen(value: np.ndarray) -> np.ndarray:
    """Return what is looked at of a value to tell its range: all; of a large volume, which is mapped, what is drawn."""
    if value.size <= MOST_SEEN or kind_of(value) != "planes":
        return value
    return np.concatenate([plane.ravel() for plane in planes_of(value)])


def seen_of_mask(mask: np.ndarray, over: np.ndarray) -> np.ndarray:
    """Return what is looked at of a mask to tell its classes."""
    if mask.size <= MOST_SEEN or kind_of(over) != "planes":
        return mask
    return np.concatenate([plane.ravel() for plane in mask_planes(mask, over)])


def told_of_planes(value: np.ndarray) -> str:
    """Return what `planes_of` shows of a value, in words."""
    if _is_film(value):
        return "first, middle and last frame"
    if _has_other_channels(value):
        return f"{min(PLANES, value.shape[-1])} of {value.shape[-1]} channels"
    channels = value.size // _volume_of(value).size
    return f"middle slices of the first of {channels} channels" if channels > 1 else "middle slices"


def _is_film(value: np.ndarray) -> bool:
    return value.ndim == 4 and value.shape[-1] == 3


def _has_other_channels(value: np.ndarray) -> bool:
    return value.ndim == 3 and value.shape[-1] <= MOST_LINES and min(value.shape[:2]) > value.shape[-1]


def _frames(count: int) -> list[int]:
    return list(dict.fromkeys((0, count // 2, count - 1)))


def _volume_of(value: np.ndarray) -> np.ndarray:
    """Return the first channel of a volume; channels may come first."""
    if value.ndim == 3:
        return value
    volume: np.ndarray = value[0] if value.shape[0] <= 4 < value.shape[-1] else value[..., 0]
    return volume


def _middle_slices(volume: np.ndarray) -> list[np.ndarray]:
    return [np.take(volume, volume.shape[axis] // 2, axis) for axis in range(3)]


# -- masks ----------------------------------------------------------------------------------------------------


def is_mask_of(
    name: str, value: np.ndarray, over: np.ndarray, *, known: Sequence[str] = (), target: bool = False
) -> bool:
    """Whether a field is a mask over a picture or volume: of its size, with one channel, and a number for each class.

    Args:
        known: Fields that the source knows to be masks.
        target: It is what a model is to learn.
    """
    mask = mask_of(value, over)
    if mask is None:
        return False
    if name in known or any(word in name.lower() for word in MASK_WORDS):
        return True
    if not target and value.dtype.kind != "b":
        return False
    found = np.unique(seen_of_mask(mask, over))
    return len(found) <= MOST_CLASSES and bool((found == np.round(found.astype(np.float64))).all())


def mask_of(value: np.ndarray, over: np.ndarray) -> np.ndarray | None:
    """Return a mask in the shape of the pixels (or voxels) of what it lies over; None, if it has another one."""
    if not is_number(value):
        return None
    space = _space_of(over)
    return value.reshape(space) if value.shape in (space, (*space, 1)) else None


def mask_planes(mask: np.ndarray, over: np.ndarray) -> list[np.ndarray]:
    """Return what lies over each plane that is shown of a volume or film."""
    if _is_film(over):
        return [mask[frame] for frame in _frames(len(mask))]
    return [mask] * PLANES if _has_other_channels(over) else _middle_slices(mask)


def _space_of(over: np.ndarray) -> tuple[int, ...]:
    """Return the shape without channels."""
    if kind_of(over) == "picture":
        return picture_of(over).shape[:2]
    if _is_film(over) or _has_other_channels(over):
        return over.shape[:-1]
    return _volume_of(over).shape


# -- ranges ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Range:
    """The least and the largest of finite values; None where there are none."""

    low: float | None
    high: float | None
    odd: int = 0  # values that are NaN or infinite

    @classmethod
    def of(cls, value: np.ndarray) -> Range:
        """Look at all of a value."""
        if value.dtype.kind in "biu":
            return cls(value.min().item(), value.max().item()) if value.size else cls(None, None)
        numbers = value.astype(np.float64)
        finite = numbers[np.isfinite(numbers)]
        odd = numbers.size - finite.size
        return cls(finite.min().item(), finite.max().item(), odd) if finite.size else cls(None, None, odd)

    def __or__(self, other: Range) -> Range:
        lows = [low for low in (self.low, other.low) if low is not None]
        highs = [high for high in (self.high, other.high) if high is not None]
        return Range(min(lows, default=None), max(highs, default=None), self.odd + other.odd)

    def __str__(self) -> str:
        odd = f"{self.odd:,} NaN or inf" if self.odd else ""
        if self.low is None or self.high is None:
            return odd or "empty"
        return f"{number(self.low)} .. {number(self.high)}{', ' if odd else ''}{odd}"


def shown_range(dtype: str, found: Range) -> tuple[float, float]:
    """Return what is drawn black, and what white, given all values that are drawn together.

    Bytes are drawn as they are, floats in 0 .. 1 too; all others are scaled by their range.

    >>> shown_range("uint8", Range(3, 200)), shown_range("float32", Range(-2, 3))
    ((0.0, 255.0), (-2.0, 3.0))
    """
    if dtype == "bool":
        return 0.0, 1.0
    low, high = found.low or 0.0, found.high or 0.0
    if dtype == "uint8" and high >= DARK:
        return 0.0, 255.0
    if dtype.startswith(("float", "bfloat")) and low >= 0 and 0.5 < high <= 1:
        return 0.0, 1.0
    return (float(low), float(high)) if high > low else (low - 0.5, low + 0.5)


def number(value: float) -> str:
    """Return a number in a few characters.

    >>> number(3), number(0.123456), number(-1234.5678), number(-0.0)
    ('3', '0.123', '-1.23e+03', '0')
    """
    return str(int(value)) if isinstance(value, int) else f"{value + 0.0:.3g}"


# -- labels ---------------------------------------------------------------------------------------------------


def labels_of(fields: Mapping[str, Any], classes: Sequence[str], drawn: Sequence[str]) -> list[str]:
    """Return what stands below a sample: its label first, then all else that is one number, or text."""
    told = []
    for name in sorted(fields, key=lambda name: name not in LABELS):
        if name not in drawn and (label := label_of(name, fields[name], classes)) is not None:
            told.append(label)
    return told


def label_of(name: str, value: Any, classes: Sequence[str]) -> str | None:
    """Return one field as a label; None, if it is none.

    >>> label_of("label", np.int64(1), ["cat", "dog"]), label_of("age", np.float32(0.5), [])
    ('dog', 'age 0.5')
    >>> label_of("label", np.asarray([0.7, 0.3]), ["cat", "dog"])
    '0.7 cat, 0.3 dog'
    """
    if isinstance(value, str | bytes) or np.asarray(value).dtype.kind in "US":
        text = np.asarray(value).item()
        return f"{name}: {text.decode(errors='replace') if isinstance(text, bytes) else text}"
    array = np.asarray(value)
    if not is_number(array):
        return None
    if array.size == 1:
        one = array.reshape(-1)[0].item()
        if name in LABELS and isinstance(one, int) and 0 <= one < len(classes):
            return classes[one]
        return f"{name} {number(one)}"
    if is_share_of_classes(name, array, classes):
        shares = array.astype(np.float64)
        first, *others = np.argsort(-shares, kind="stable")[:3].tolist()
        others = [other for other in others if shares[other] > 0.05]
        if not others and shares[first] > 0.995:
            return _class(name, first, classes)
        return ", ".join(f"{shares[which]:.2g} {_class(name, which, classes)}" for which in (first, *others))
    return None


def is_share_of_classes(name: str, value: np.ndarray, classes: Sequence[str]) -> bool:
    """Whether a vector has a share for each class, which sum to 1."""
    if value.ndim != 1 or len(value) < 2 or name not in LABELS or not is_number(value):
        return False
    numbers: NDArray[np.float64] = value.astype(np.float64)
    return bool(numbers.min() >= 0 and abs(numbers.sum() - 1) < 1e-2) and len(classes) in (0, len(value))


def _class(name: str, which: int, classes: Sequence[str]) -> str:
    return classes[which] if classes else f"{name} {which}"


def _channels_first(shape: tuple[int, ...]) -> bool:
    return shape[0] in CHANNELS and min(shape[1:]) >= LEAST_SIDE
