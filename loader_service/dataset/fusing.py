"""Which geometric steps run as one, and how such a run is drawn: every picture that takes part with one warp.

A run is made of steps that follow one another on one picture, and on the fields that follow it. `RULES` say when a
step joins the run before it; where one says no, another run begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.sources.decoding import EncodedJpeg
from loader_service.dataset.transforms.geometry.bilinear import room_for
from loader_service.dataset.transforms.geometry.drawing import density, drawn, halvings_at_once
from loader_service.dataset.transforms.geometry.follow import Follow
from loader_service.dataset.transforms.geometry.geometric import Geometric, look_of
from loader_service.dataset.transforms.geometry.moves import Cut
from loader_service.dataset.transforms.geometry.placement import Placement
from loader_service.dataset.transforms.geometry.windows import Windows
from loader_service.dataset.transforms.transform import ColumnDraws, Draws, Sample
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec, Spec

Steps = Sequence[Geometric]
Picture = np.ndarray | EncodedJpeg
SHRINKS = (8, 4, 2)  # by which a JPEG can be scaled down while it is decoded


@dataclass(frozen=True)
class Rule:
    """When a step may join the steps of a run."""

    name: str
    joins: Callable[[Steps, Geometric], bool]


def _one(steps: Steps, told: Callable[[Geometric], Any]) -> bool:
    """Return whether all steps that say something say the same."""
    said = {told(step) for step in steps}
    return len(said - {None}) <= 1


def _area_alone(steps: Steps) -> bool:
    resampling = [step.resampling[0] for step in steps if step.resampling is not None]
    return "area" not in resampling or len(resampling) == 1


RULES = (
    Rule("padding sees the edges of what comes before", lambda run, step: not any(each.alone for each in (*run, step))),
    Rule("one interpolation", lambda run, step: _one((*run, step), lambda each: each.resampling)),
    Rule("area interpolation resizes, and warps nothing", lambda run, step: _area_alone((*run, step))),
    Rule("one fill mode", lambda run, step: _one((*run, step), lambda each: each.filling)),
    Rule("one bend", lambda run, step: sum(each.bends for each in (*run, step)) <= 1),
)


class Group:
    """A picture, and the fields that follow it."""

    def __init__(self, image: str, follows: tuple[Follow, ...] = ()) -> None:
        self.image, self.follows = image, follows
        self.followers = tuple(name for follow in follows for name in follow.fields)
        self.fields = (image, *self.followers)

    def declare(self, step: Geometric, spec: Spec) -> Spec:
        """Return the spec of a sample behind one step."""
        declared = dict(step.declare(spec))
        size = declared[self.image].shape[:2]
        for follow in self.follows:
            for name in follow.fields:
                if name not in spec:
                    raise DatasetError(
                        f"{step.kind}: there is no field {name!r}, which follows {self.image!r}, any more"
                    )
            for name in follow.pictures:
                declared[name] = step.model_copy(update={"field": name}).declare_field(spec[name])
            for name in follow.masks:
                declared[name] = FieldSpec((*size, *spec[name].shape[2:]), spec[name].dtype)
        return declared


class Run:
    """Geometric steps of a group that are done as one."""

    def __init__(self, group: Group, steps: Steps) -> None:
        self.group, self.steps = group, tuple(steps)
        self.in_place = all(step.in_place for step in steps)
        self.views = all(step.views for step in steps)
        self._look = look_of(*steps)
        has_own_way = type(steps[0]).apply is not Geometric.apply  # which is the shortest
        self._own = steps[0].apply if len(steps) == 1 and has_own_way else None
        self._draws = any(step.draws for step in steps)
        self._last: tuple[tuple[int, int], Placement] | None = None  # where nothing is drawn: of pictures of this size
        looks = [
            (follow, self._look._replace(interpolation="nearest", fill_value=follow.mask_value))
            for follow in group.follows
        ]
        self._pictures = [(follow, name, self._look) for follow in group.follows for name in follow.pictures]
        self._pictures += [(follow, name, look) for follow, look in looks for name in follow.masks]
        self._boxes = [(follow, name) for follow in group.follows for name in follow.boxes]
        self._points = [(follow, name) for follow in group.follows for name in follow.points]

    def place(self, height: int, width: int, draws: Sequence[Draws]) -> Placement:
        """Return where the pixels of a picture of this size come from, with the draws of each step."""
        placement = Placement(height, width)
        for step, drawn_numbers in zip(self.steps, draws, strict=True):
            placement.follow(step.moves(placement.height, placement.width, drawn_numbers))
        return placement

    def draw(self, picture: Picture, draws: Sequence[Draws], out: np.ndarray | None) -> np.ndarray:
        """Return one picture after all steps; in `out`, where that is given and fits, or a view."""
        if self._own is not None and not isinstance(picture, EncodedJpeg):
            return self._own(picture, draws[0], out)
        height, width, *_ = picture.shape
        if isinstance(picture, EncodedJpeg):
            return self._drawn(picture, self.place(height, width, draws), out)
        if self._draws:
            placement = self.place(height, width, draws)
        else:
            if self._last is None or self._last[0] != (height, width):
                self._last = (height, width), self.place(height, width, draws)
            placement = self._last[1]
        return drawn(picture, placement, self._look, out)

    @property
    def chooses(self) -> bool:
        """Whether all that it does, to many pictures at once, is to show a part of each, mirrored or not."""
        return not self.group.follows and all(step.chooses for step in self.steps)

    def decodes_part(self, placement: Placement, height: int, width: int, channels: int) -> bool:
        """Whether no more of a JPEG of this size is decoded than a part that it shows."""
        if placement.window != (0, 0, height, width):
            return True
        target = placement.target
        if target is None or target.part == (0, 0, *target.scale):
            return False
        return channels >= 3 and halvings_at_once(placement.window, target, self._look) is not None

    def is_picked_by(self, run: Run) -> bool:
        """Whether all that another run of its group does is to show some of the pixels that this one makes, unchanged.

        It makes all of a picture in one size, or shows some of its pixels itself. Boxes and points differ by rounding.
        """
        first, *others = self.steps
        if self._boxes or self._points:
            return False
        return (first.chooses or first.scales) and all(step.chooses for step in (*others, *run.steps))

    def copy(
        self,
        pictures: np.ndarray,
        ids: NDArray[np.int64],
        draws: Sequence[ColumnDraws],
        out: np.ndarray | None,
        *,
        read_later: bool = False,
    ) -> np.ndarray:
        """Return what is chosen of `pictures[ids]`; in `out`, where that is given, or in fresh memory.

        Args:
            read_later: Not here: nothing else is done to it.
        """
        height, width, channels = pictures.shape[1:]
        windows = Windows(len(ids), height, width)
        for step, drawn_numbers in zip(self.steps, draws, strict=True):
            windows.follow(step.moves_of_many(windows.height, windows.width, drawn_numbers))
        if out is None:
            out = np.empty((len(ids), windows.height, windows.width, channels), pictures.dtype)
        windows.copy(pictures, ids, out, read_later=read_later)
        return out

    def _drawn(self, picture: Picture, placement: Placement, out: np.ndarray | None) -> np.ndarray:
        """Draw one picture; of a file, only what the placement shows is decoded."""
        if isinstance(picture, EncodedJpeg):
            shrink = shrink_of(placement) if picture.shrinks else 1
            part = part_of(placement.window, picture.shape[0], picture.shape[1], shrink)
            target = placement.target if shrink == 1 and part == placement.window else None
            if target is not None and (halvings := halvings_at_once(part, target, self._look)) is not None:
                numbers, room = (*halvings, *target.numbers), room_for(target, picture.shape[2], out)
                made = picture.decode_scaled(part, numbers, room)
                if made is not None:
                    return made
            picture = picture.decode(*part, shrink)
            placement.narrow(part, shrink)
        return drawn(picture, placement, self._look, out)

    def apply(self, sample: Sample, draws: Sequence[Draws], rows: dict[str, np.ndarray]) -> Sample:
        """Do all steps to the fields of a sample.

        Args:
            rows: Where to write, for those fields that are ready then.
        """
        image = self.group.image
        picture = sample[image]
        height, width = picture.shape[:2]
        placement = self.place(height, width, draws)
        for follow, name, look in self._pictures:
            value = np.asarray(sample[name])
            follow.check(name, value, picture)
            sample[name] = drawn(value, placement, look, rows.get(name))
        for follow, name in self._boxes:
            sample[name] = follow.moved_boxes(name, sample[name], placement, height, width)
        for follow, name in self._points:
            sample[name] = follow.moved_points(sample[name], placement)
        sample[image] = self._drawn(picture, placement, rows.get(image))
        return sample


def part_of(window: Cut, height: int, width: int, shrink: int) -> Cut:
    """Return the part of a picture of this size, scaled down by `shrink`, that a window shows; all, if it is larger."""
    top, left = max(0, window.top) // shrink, max(0, window.left) // shrink
    below, right = min(window.top + window.height, height), min(window.left + window.width, width)
    return Cut(top, left, -(-below // shrink) - top, -(-right // shrink) - left)


def shrink_of(placement: Placement) -> int:
    """Return by how much a picture may be scaled down before it is drawn: it keeps a pixel for each that is drawn."""
    least = min(density(placement.to_window(), placement.height, placement.width))
    return next((shrink for shrink in SHRINKS if least >= shrink), 1)
