"""What runs at once on a sample: one step, or several that are fused; and which fields it writes into their rows."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.draws import DrawKeys
from loader_service.dataset.fusing import RULES, Group, Run
from loader_service.dataset.transforms.geometry.follow import Follow
from loader_service.dataset.transforms.geometry.geometric import Geometric
from loader_service.dataset.transforms.map import SampleFunction
from loader_service.dataset.transforms.map_rows import MapRows
from loader_service.dataset.transforms.transform import ColumnDraws, FieldTransform, Sample, SampleTransform, Transform
from loader_service.protocol.spec import Spec

Rows = Mapping[str, np.ndarray]


class Turn:
    """Whose turn it is, and its random numbers."""

    def __init__(self, epoch: int, draws: Mapping[int, ColumnDraws], keys: DrawKeys, position: int = 0) -> None:
        """Begin with the first row.

        Args:
            draws: Of each step that draws for all rows at once.
            position: Of that row, in the epoch.
        """
        self.epoch, self.draws, self.keys, self.position = epoch, draws, keys, position
        self.row = 0  # among the draws

    @cached_property
    def numbers(self) -> dict[int, list[list[float]]]:
        """The draws of each step, row by row: NumPy takes longer to give out one row."""
        return {step: drawn.tolist() for step, drawn in self.draws.items()}

    def part(self, start: int, stop: int) -> Turn:
        """Return the turn of some of its rows."""
        return Turn(self.epoch, {step: drawn[start:stop] for step, drawn in self.draws.items()}, self.keys)


@dataclass(eq=False)
class Unit:
    """Some steps, by their numbers, that are done to a sample at once."""

    numbers: tuple[int, ...]
    fields: tuple[str, ...]  # that it acts on; none: the sample as a whole
    into_row: frozenset[str] = field(default=frozenset(), init=False)  # fields whose rows are written to

    @property
    def in_place(self) -> bool:
        """Whether the values may lie in the rows that it writes to."""
        return False

    @property
    def writes(self) -> bool:
        """Whether what it makes is written into a row, and not only a part of what lies elsewhere."""
        return bool(self.into_row)

    def apply(self, sample: Sample, turn: Turn, rows: Rows) -> Sample:
        """Return the sample after these steps; of a unit that acts on one field, with another value of it."""
        (name,) = self.fields
        sample[name] = self.change(sample[name], turn, rows[name] if self.into_row else None)
        return sample

    def change(self, value: np.ndarray, turn: Turn, out: np.ndarray | None) -> np.ndarray:
        """Return the value after these steps, of a unit that acts on one field; in `out`, where that fits."""
        raise NotImplementedError(f"{type(self).__name__} acts on more than one field")

    @property
    def takes_columns(self) -> bool:
        """Whether it acts on one field, and `change_column` takes no longer than `change`, row by row."""
        return False

    def change_column(self, values: np.ndarray, turn: Turn, out: np.ndarray | None) -> np.ndarray:
        """Return the values after these steps, for all rows of a turn; in `out`, where that fits."""
        raise NotImplementedError(f"{type(self).__name__} takes no columns")


@dataclass(eq=False)
class OneField(Unit):
    """A step that acts on one field."""

    step: FieldTransform

    @property
    def in_place(self) -> bool:
        """As the step has it."""
        return self.step.in_place

    @property
    def writes(self) -> bool:
        """As the step has it."""
        return bool(self.into_row) and not self.step.views

    def change(self, value: np.ndarray, turn: Turn, out: np.ndarray | None) -> np.ndarray:
        """Do the step."""
        return self.step.apply(value, turn.numbers[self.numbers[0]][turn.row], out)

    @property
    def takes_columns(self) -> bool:
        """As the step has it."""
        return self.step.vectorised

    def change_column(self, values: np.ndarray, turn: Turn, out: np.ndarray | None) -> np.ndarray:
        """Do the step to all rows."""
        return self.step.apply_column(values, turn.draws[self.numbers[0]], out)


@dataclass(eq=False)
class WholeSample(Unit):
    """A step that acts on the sample as a whole."""

    step: SampleTransform
    expected: Spec | None = field(default=None, init=False)  # once that is known: what a user's function must return

    def apply(self, sample: Sample, turn: Turn, rows: Rows) -> Sample:
        """Return what the step makes of it."""
        made = self.step.apply(sample, turn.keys.of(turn.epoch, self.numbers[0]), turn.position)
        if self.expected is not None and isinstance(self.step, SampleFunction):
            self.step.refuse_others(made, self.expected)
        return made


@dataclass(eq=False)
class Geometry(Unit):
    """A run of geometric steps."""

    run: Run

    def joined_by(self, other: Geometry) -> Geometry:
        """Return one with the steps of another behind its own."""
        run = Run(self.run.group, (*self.run.steps, *other.run.steps))
        return Geometry((*self.numbers, *other.numbers), self.fields, run)

    @property
    def in_place(self) -> bool:
        """As all its steps have it."""
        return self.run.in_place

    @property
    def writes(self) -> bool:
        """Unless all that happens are crops."""
        return bool(self.into_row) and not self.run.views

    def apply(self, sample: Sample, turn: Turn, rows: Rows) -> Sample:
        """Return the sample with all its pictures drawn."""
        if len(self.fields) == 1:
            return super().apply(sample, turn, rows)
        draws = [turn.numbers[number][turn.row] for number in self.numbers]
        return self.run.apply(sample, draws, {name: rows[name] for name in self.into_row})

    def change(self, value: np.ndarray, turn: Turn, out: np.ndarray | None) -> np.ndarray:
        """Draw the picture."""
        numbers, row = turn.numbers, turn.row
        return self.run.draw(value, [numbers[number][row] for number in self.numbers], out)

    @property
    def takes_columns(self) -> bool:
        """If all that it does is to show parts of pictures."""
        return self.run.chooses

    def change_column(self, values: np.ndarray, turn: Turn, out: np.ndarray | None) -> np.ndarray:
        """Show the parts."""
        return self.choose(values.copy() if out is values else values, np.arange(len(values)), turn, out)

    def choose(
        self,
        pictures: np.ndarray,
        ids: NDArray[np.int64],
        turn: Turn,
        out: np.ndarray | None,
        *,
        read_later: bool = False,
    ) -> np.ndarray:
        """Show parts of `pictures[ids]`, wherever these lie; `read_later`, if no other unit follows."""
        return self.run.copy(pictures, ids, [turn.draws[number] for number in self.numbers], out, read_later=read_later)


def groups_of(steps: tuple[Transform, ...]) -> list[Group | None]:
    """Return the fields that each geometric step acts on; None for all other steps."""
    groups: dict[str, Group] = {}
    found: list[Group | None] = []
    for step in steps:
        if isinstance(step, Follow):
            before = groups.get(step.image, Group(step.image))
            groups[step.image] = Group(step.image, (*before.follows, step))
        if isinstance(step, Geometric) and step.field not in groups:
            groups[step.field] = Group(step.field)
        found.append(groups[step.field] if isinstance(step, Geometric) else None)
    return found


def declared(step: Transform, group: Group | None, spec: Spec) -> Spec:
    """Return the spec of a sample behind a step."""
    return group.declare(step, spec) if isinstance(step, Geometric) and group is not None else step.declare(spec)


def singly(steps: tuple[Transform, ...], groups: list[Group | None]) -> list[Unit]:
    """Return each step as a unit, in turn: the plain way, which fused units must equal."""
    return [unit for number in range(len(steps)) for unit in _unit(number, steps[number], groups[number])]


def fused(
    steps: tuple[Transform, ...],
    groups: list[Group | None],
    *,
    kept: int | None = None,
    shrunk: Container[str] = (),
) -> list[Unit]:
    """Return the steps as units, in an order that makes the same sample.

    A step that a cache may stand behind, since nothing before it is random, is a unit of its own: whether there is one
    must change no sample. To one that only picks pixels of it, and which no cache keeps apart, it is all the same.

    Args:
        kept: So many steps are done before samples are kept; all, where none are.
        shrunk: Pictures that may be decoded in a smaller size, which changes what a scaled one is made of.
    """
    fixed = next((number for number, step in enumerate(steps) if step.is_random), len(steps))
    units, end = singly(steps, groups), len(steps) if kept is None else kept

    def fit(before: Geometry, unit: Geometry) -> bool:
        (step,) = unit.run.steps
        return all(rule.joins(before.run.steps, step) for rule in RULES)

    def picks(before: Geometry, unit: Geometry) -> bool:
        apart = before.numbers[0] < end <= unit.numbers[0]
        return not apart and before.run.group.image not in shrunk and before.run.is_picked_by(unit.run)

    at_random = _joined((unit for unit in units if unit.numbers[0] >= fixed), fit)
    return _joined([*(unit for unit in units if unit.numbers[0] < fixed), *at_random], picks)


def _joined(units: Iterable[Unit], may: Callable[[Geometry, Geometry], bool]) -> list[Unit]:
    """Join runs to those before them on the same pictures, where they may, and no unit between them touches these."""
    made: list[Unit] = []
    open_: dict[Group, int] = {}  # the place of the run that others of its group may still join
    for unit in units:
        if isinstance(unit, Geometry) and unit.run.group in open_:
            at = open_[unit.run.group]
            before = made[at]
            assert isinstance(before, Geometry), "only runs are open"
            if may(before, unit):
                made[at] = before.joined_by(unit)
                continue
        open_ = {group: at for group, at in open_.items() if not _touch(unit, made[at])}
        if isinstance(unit, Geometry):
            open_[unit.run.group] = len(made)
        made.append(unit)
    return made


def _unit(number: int, step: Transform, group: Group | None) -> list[Unit]:
    if isinstance(step, Geometric) and group is not None:
        return [Geometry((number,), group.fields, Run(group, (step,)))]
    if isinstance(step, FieldTransform):
        return [OneField((number,), (step.field,), step)]
    if isinstance(step, SampleTransform):
        return [WholeSample((number,), (), step)]
    return []  # it does nothing to a sample: `follow`


def _touch(one: Unit, other: Unit) -> bool:
    return not one.fields or not set(one.fields).isdisjoint(other.fields)


def maps_rows(unit: Unit) -> bool:
    """Whether a unit is a user's function that takes many samples at once."""
    return isinstance(unit, WholeSample) and isinstance(unit.step, MapRows)
