"""`Dataset`: a declaration, chained; immutable; to and from plain data.

Nothing is read while it is declared. It is opened, in this process, by what needs its content: `key`, `spec`,
`compute`; a stream has it opened by a worker instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from loader_service.dataset.cache.step import Cache
from loader_service.dataset.chained.augment_images import ImageDataGeneratorArguments
from loader_service.dataset.chained.batches import Batches
from loader_service.dataset.chained.colour import Colour
from loader_service.dataset.chained.geometry import Geometry
from loader_service.dataset.chained.selections import Selections
from loader_service.dataset.chained.series import SeriesTransforms
from loader_service.dataset.chained.sources import Sources
from loader_service.dataset.chained.transforms import Transforms
from loader_service.dataset.chained.volumes import VolumeTransforms
from loader_service.dataset.declaration import Declaration
from loader_service.dataset.explain import explain
from loader_service.dataset.explained_text import Explanation
from loader_service.dataset.given import PathLike, absolute, checked
from loader_service.dataset.packing.writer import Packed, write_pack
from loader_service.dataset.plan import Plan
from loader_service.dataset.preview.preview import Preview, preview
from loader_service.dataset.shown import shown
from loader_service.dataset.statistics.gather import Progress, gather
from loader_service.dataset.statistics.stats import Stats
from loader_service.dataset.stitching import stitch
from loader_service.dataset.whole import AnyPlan, open_plan
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.layout import IDS
from loader_service.protocol.ragged import assembled
from loader_service.protocol.spec import FieldSpec, describe


class Dataset(
    Sources,
    Geometry,
    ImageDataGeneratorArguments,
    SeriesTransforms,
    VolumeTransforms,
    Transforms,
    Colour,
    Selections,
    Batches,
):
    """What to load and how: a source, transforms, an order, a batch size. Every method returns a new one.

    >>> digits = Dataset.from_arrays(x=np.zeros((10, 8, 8, 1), "uint8"), y=np.arange(10))
    >>> ds = digits.rescale(1 / 255, field="x").shuffle(seed=7).batch(4)
    >>> {name: array.shape for name, array in ds.compute(2).items()}
    {'x': (2, 8, 8, 1), 'y': (2,)}
    """

    def cache(self, most: int | str | None = None, *, path: PathLike | None = None, in_memory: bool = False) -> Self:
        """Keep what the steps so far make of each sample: for further epochs, runs and trainers.

        Samples are kept on the disk, where all workers map them. They are found again by the hash of the source, its
        files, the steps before, and the code of yours among these: whatever changes has a cache of its own, and a file
        that changed is read again. Say it before all that is random. Batches are the same with it and without.

        Args:
            most: Bytes that it may take, as in "20 GiB". What comes first stays; the rest is made anew each time. Where
                None, half of what the disk, or memory, has left.
            path: Folder in which it lies; that of the user's caches where None: see `loader-service cache`.
            in_memory: Keep them in shared memory, and write nothing to a disk. They are there for further runs as well,
                until they are cleared or the machine ends.
        Raises:
            DatasetError: If a step before is random, or the source is read live.
        """
        if self.declaration.cache is not None:
            raise DatasetError("cache: there is one already: one is enough, behind all that is to be kept")
        if self.declaration.finish:
            raise DatasetError(f"cache: it keeps samples, so say it before {self.declaration.finish[0].kind}")
        where = None if path is None else absolute(path)
        made = checked(Cache, after=len(self.declaration.transforms), most=most, path=where, in_memory=in_memory)
        plain = {**vars(self.declaration), "cache": made}
        return replace(self, declaration=checked(Declaration, **plain))

    # -- what it is ------------------------------------------------------------------------------------------

    @property
    def key(self) -> str:
        """The hash of the declaration, of what it reads, and of the user code that it names."""
        return self.plan.key

    @property
    def spec(self) -> dict[str, FieldSpec]:
        """Shape and dtype of each field of a row."""
        return dict(self.plan.spec)

    @property
    def samples(self) -> int:
        """Samples of an epoch: those that are selected, or the draws among them."""
        return self.plan.samples

    @property
    def batches_per_epoch(self) -> int:
        """Batches of an epoch."""
        return self.plan.batches_per_epoch

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, where the source knows them."""
        return list(self.plan.class_names)

    def compute(self, n: int) -> dict[str, Any]:
        """Make batch `n` in this process; `n` counts from 0 over all epochs. This is what a batch *is*."""
        batch = self.plan.compute(n)
        del batch[IDS]
        return assembled(batch, self.plan.spec)

    def stats(
        self,
        fields: str | Sequence[str] | None = None,
        *,
        channels: str | Sequence[str] = (),
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> Stats:
        """Read every sample once, in workers, and return mean, std, range, classes and sizes of each field.

        Samples are those of epoch 0, after all transforms and before what is done to whole batches: padding does not
        count. A field whose rows have two axes or more has a number for each channel, which is an entry of the last
        axis; any other has one number for all of its entries. NaN and infinite numbers are counted, and left out.

        Args:
            fields: Their names; all that hold numbers, where None.
            channels: Fields whose rows have one axis, each entry of which has a mean of its own: those of a table.
            workers: As in `connect`: None joins a daemon, or starts a private one; 0 works in this process.
            progress: Called again and again with the samples that are done, and with how many there are.
        Raises:
            DatasetError: If a field that is named is not there, or holds no real numbers; or if there are none at all.
            SampleError: If a sample cannot be made. With `on_error("replace")` it is left out instead.
        """
        # The one place of this floor that looks up to the client: to be added up, samples have to be read.
        from loader_client import connect

        return gather(self, fields, channels, progress, partial(connect, workers=workers))

    def stitch(self, predictions: ArrayLike | Iterable[np.ndarray]) -> list[np.ndarray]:
        """Put what a model predicts for the patches of `from_patches` together: one array for each volume.

        Where patches overlap, the mean is taken, as float32 or better.

        Args:
            predictions: What `model.predict` returns, of shape (patches, *size, ...), or batches of it one by one.
        Returns:
            Arrays of shape (*volume, ...), in the order of the volumes.
        Raises:
            DatasetError: If they are too many or too few, of another size, or not in the order of the patches.
        """
        if not isinstance(self.plan, Plan):
            raise DatasetError(f"stitch: the dataset reads {self.declaration.source.kind}, which has no patches")
        return stitch(self.plan, predictions)

    def names(self, ids: ArrayLike | None = None) -> list[str]:
        """Return what samples are called: the paths of their files, where they have some.

        Args:
            ids: As `batch.ids` has them; -1, which is padding, has the name "". All samples, in the order of the
                source, where None.
        """
        return self.plan.names(None if ids is None else np.asarray(ids))

    def explain(self) -> Explanation:
        """Return the plan that will run: steps, sizes, order, memory, the key; `print` it, or take its `plain` data."""
        return Explanation(explain(self.plan))

    def preview(
        self, n: int = 4, *, epoch: int = 0, epochs: int = 4, seed: int | None = None, field: str | Sequence[str] = ()
    ) -> Preview:
        """Draw samples, as they are and as the model gets them: a notebook shows the result, `save(path)` writes it.

        Args:
            n: Samples: the first of the epoch, or all, where there are fewer.
            epoch: Whose order, and whose random numbers, are shown first.
            epochs: How many epochs' random numbers are shown.
            seed: In place of the dataset's own, for another order and other random numbers.
            field: What to draw, a field or several; all that can be drawn, where nothing is said.
        Raises:
            DatasetError: If there is nothing to draw, or a sample cannot be made; it is named.
        """
        fields = (field,) if isinstance(field, str) else tuple(field)
        return preview(self.declaration, self._table, n=n, epoch=epoch, epochs=epochs, seed=seed, fields=fields)

    def pack(
        self,
        path: PathLike,
        *,
        decode: bool = False,
        force: bool = False,
        told: Callable[[int, int], None] = lambda done, total: None,
    ) -> Packed:
        """Write all samples of the source into one file, for `from_pack`: transforms and the like are not part of it.

        If it is interrupted, the same call goes on.

        Args:
            decode: Keep arrays that need no decoding any more, not the bytes of the files.
            force: Replace the file if it exists; begin anew where the source has changed since it was interrupted.
            told: Called with the steps that are done, and with all there are: to write each file, and to read it back.
        Raises:
            DatasetError: If the source is none that is packed, a file cannot be read, or the pack not be written.
        """
        return write_pack(self.declaration.source, self._table, absolute(path), decode=decode, force=force, told=told)

    @cached_property
    def plan(self) -> AnyPlan:
        """The dataset opened in this process."""
        return open_plan(self.declaration, self._table)

    def __repr__(self) -> str:
        found = f": {self.samples:,} samples, {describe(self.spec)}" if "plan" in vars(self) else ""  # opens nothing
        return f"<Dataset {shown(self.declaration)}{found}>"
