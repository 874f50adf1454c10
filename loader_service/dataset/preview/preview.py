"""`Preview`: a contact sheet as a picture, for a file or a notebook."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from loader_service.dataset.declaration import Batch, Declaration, Shuffle
from loader_service.dataset.preview.page import paint
from loader_service.dataset.preview.samples import check_numbers, held, subjects
from loader_service.dataset.preview.sheet import Context, Sheet, lay_out
from loader_service.dataset.sources.generator import Generator
from loader_service.dataset.sources.keras_sequence import KerasSequence
from loader_service.dataset.sources.series import Series
from loader_service.dataset.sources.source import ReadTable
from loader_service.dataset.whole import AnyPlan, open_plan
from loader_service.protocol.errors import DatasetError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MOST_JPEG, MOST_WEBP = 65_500, 16_383  # pixels of a side


@dataclass(frozen=True)
class Preview:
    """Samples as they are, and as the model gets them. A notebook shows it; `save` writes it."""

    sheet: Sheet

    @cached_property
    def picture(self) -> np.ndarray:
        """The contact sheet, uint8 (height, width, 3) RGB."""
        return paint(self.sheet)

    def save(self, path: str | Path) -> None:
        """Write it as PNG, JPEG or WebP, as the name of the file says.

        Raises:
            DatasetError: If it cannot be written there.
        """
        path = check_output(path)
        most = {".webp": MOST_WEBP, ".png": 2**31}.get(path.suffix.lower(), MOST_JPEG)
        if max(self.picture.shape) > most:
            raise DatasetError(
                f"{str(path)!r}: the sheet is {max(self.picture.shape):,} pixels high or wide, and such a file holds "
                f"{most:,}: write a .png, or fewer samples"
            )
        try:
            path.write_bytes(self._encoded(path.suffix.lower()))
        except OSError as error:
            raise DatasetError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error

    def _encoded(self, suffix: str) -> bytes:
        _, encoded = cv2.imencode(suffix, self.picture[..., ::-1])
        return bytes(encoded)

    def _repr_png_(self) -> bytes:
        return self._encoded(".png")

    def _repr_html_(self) -> str:
        """Return it for notebooks, with titles and labels as text, too."""
        sheet, height, width = self.sheet, *self.picture.shape[:2]
        data = base64.b64encode(self._repr_png_()).decode()
        lines = [f"{strip.title}: {_labels(strip.cells)}" for strip in sheet.strips]
        told = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
        return (
            f'<figure style="margin:0"><img width="{width}" height="{height}" style="max-width:100%;height:auto" '
            f'alt="{html.escape(sheet.title)}" src="data:image/png;base64,{data}">'
            f"<figcaption><details><summary>{html.escape(sheet.title)}</summary><ul>{told}</ul></details></figcaption>"
            "</figure>"
        )

    def __repr__(self) -> str:
        samples = len(self.sheet.strips)
        return f"<Preview of {samples} samples; save(path) writes it, a notebook shows it>"


def check_output(path: str | Path) -> Path:
    """Return where a sheet is to be written, after a look at whether that can be.

    Raises:
        DatasetError: If there is no such folder, or no such type of file.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise DatasetError(f"{str(path)!r}: expected a name that ends in {', '.join(SUFFIXES)}")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise DatasetError(f"{str(path)!r}: there is no folder {str(folder)!r}")
    if path.is_dir():
        raise DatasetError(f"{str(path)!r} is a folder: expected the name of a file")
    return path


def preview(
    declaration: Declaration,
    table: ReadTable,
    *,
    n: int = 4,
    epoch: int = 0,
    epochs: int = 4,
    seed: int | None = None,
    fields: tuple[str, ...] = (),
    name: str = "",
) -> Preview:
    """Make the contact sheet of a dataset.

    Args:
        n: Samples, or as many as there are.
        seed: Of another order, and of other random numbers, than the dataset's.
        fields: To draw; where there are none, all that can be.
        name: What the dataset is called.
    Raises:
        DatasetError: If there is nothing to draw, or a sample cannot be made.
    """
    check_numbers(n, epoch, epochs)
    source, samples = declaration.source, None
    if isinstance(source, Generator):
        samples = source.samples
        declaration, table = held(declaration, table, n)
    if seed is not None:
        declaration = _reseeded(declaration, seed)
    if declaration.batch is None and not source.whole:
        declaration = declaration.model_copy(update={"batch": Batch(size=1)})
    plan = open_plan(declaration, table)
    drawn = subjects(plan, n, epoch, epochs)
    context = Context(
        title=_title(name, plan, samples or plan.samples, len(drawn)),
        classes=plan.class_names,
        targets=plan.info.targets,
        masks=tuple(getattr(source, "masks", ())),
        series=isinstance(source, Series),
        wanted=fields,
        notes=_notes(declaration, len(drawn)),
    )
    return Preview(lay_out(drawn, context))


def _reseeded(declaration: Declaration, seed: int) -> Declaration:
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise DatasetError(f"preview: seed is {seed!r}, expected a whole number from 0 on")
    changed: dict[str, Any] = {"shuffle": Shuffle(seed=seed)}
    if isinstance(declaration.source, KerasSequence):
        changed["source"] = declaration.source.model_copy(update={"seed": seed})
    return declaration.model_copy(update=changed)


def _title(name: str, plan: AnyPlan, samples: int, n: int) -> str:
    told = f"{name}: " if name else ""
    if plan.info.whole:
        return f"{told}{n} rows, from the first of {samples:,} batches on"
    order = f"shuffled, seed {plan.declaration.seed}" if plan.info.shuffled else "in the order of the source"
    return f"{told}{n} of {samples:,} samples, {order}"


def _notes(declaration: Declaration, n: int) -> list[str]:
    if declaration.source.whole:
        return ["rows of whole batches: what the object made of its samples, and nobody knows what they were before"]
    whole = [step.kind for step in declaration.finish if step.kind in ("mixup", "cutmix", "map_batch")]
    if whole:
        return [f"{' and '.join(whole)} {'was' if len(whole) == 1 else 'were'} given these {n} samples as a batch"]
    return []


def _labels(cells: list[list[Any]]) -> str:
    lines = [line for cell in cells[0] if cell is not None for line in (*cell.labels, *cell.facts)]
    return "; ".join(dict.fromkeys(lines))
