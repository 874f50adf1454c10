"""How samples become batches: their order, their number, and what makes rows of different lengths fit together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, Self

from numpy.typing import ArrayLike

from loader_service.dataset.buckets import Buckets
from loader_service.dataset.chained.declared import FUNCTION_ADVICE, Declared
from loader_service.dataset.declaration import Batch, OnError, Shuffle
from loader_service.dataset.finish.lengths import PadLongest, RaggedRows
from loader_service.dataset.finish.map_batch import MapBatch
from loader_service.dataset.finish.mixing import CutMix, Mixup
from loader_service.dataset.given import checked, keep, row_array
from loader_service.dataset.objects import named_or_carried
from loader_service.dataset.transforms.pad import PadTo
from loader_service.protocol.errors import DatasetError


class Batches(Declared):
    """Order and batches, and what is done to a batch once all of its rows are there."""

    def shuffle(self, seed: int = 0) -> Self:
        """Visit samples in a new order each epoch; `seed` sets it, and all that is random in the transforms."""
        return self._replace(shuffle=checked(Shuffle, seed=seed))

    def bucket_by_length(self, field: str, boundaries: Sequence[int], *, lengths: ArrayLike | None = None) -> Self:
        """Put samples of about one length into each batch, so that little is padded; add `.pad(field, to="bucket")`.

        A bucket has the samples up to one boundary, from the one before on; a last one has those that are longer. Whole
        batches of all buckets are shuffled together; the short last batches of the buckets end the epoch.

        Args:
            boundaries: The longest row of each bucket, rising.
            lengths: A whole number for each sample of the source, where that does not know them itself.
        Raises:
            DatasetError: If boundaries do not rise.
        """
        tables = dict(self.tables)
        kept = None if lengths is None else keep(row_array("bucket_by_length: lengths", lengths), tables)
        made = checked(Buckets, field=field, boundaries=tuple(boundaries), lengths=kept)
        return replace(self._replace(bucket_by_length=made), tables=tables)

    def batch(self, size: int, remainder: Literal["keep", "drop", "pad"] = "keep") -> Self:
        """Put `size` samples into each batch.

        Args:
            remainder: What becomes of an epoch's last samples where they fill no whole batch: "keep" makes a
                short one, "drop" leaves them out, "pad" fills it up with rows of zeros and adds the field
                `weight`, which is 0 for them and 1 for all others.
        """
        return self._replace(batch=checked(Batch, size=size, remainder=remainder))

    def on_error(self, policy: Literal["raise", "replace"], *, most: float = 0.01) -> Self:
        """Say what becomes of a sample that cannot be made: it raises twice, or three workers die over it.

        Args:
            policy: "raise" names it in an error, which is also what is done where nothing is said. "replace" puts
                another sample into its row, always the same one, and remembers that in the ledger of the dataset's key.
            most: Share of the samples that may be replaced, in (0, 1]; one may be in any case. Beyond it, an error.
        """
        said = checked(OnError, policy=policy, most=most)
        return self._replace(on_error=None if policy == "raise" else said)

    # -- rows that differ in length, and whole batches -------------------------------------------------------

    def pad(
        self,
        field: str,
        to: int | Literal["longest", "bucket"] = "longest",
        *,
        most: int | None = None,
        value: float = 0,
        truncate: bool = False,
        mask: str | None = None,
        lengths: str | None = None,
    ) -> Self:
        """Bring rows of different lengths to one length: that of their batch's longest, of its bucket, or always one.

        Args:
            field: Its first axis is padded, at the end.
            to: "longest"; "bucket", the boundary of the bucket that the longest would be in; or the number of entries
                that each row gets.
            most: Entries of the longest row of all, for which room is kept; needed for "longest" where the source
                does not know it.
            value: What is put behind a row's end.
            truncate: Cut off the end of rows that are longer than `to`; otherwise, these are an error.
            mask: Name of a further field, bool (length,): where a row has entries.
            lengths: Name of a further field, int64 (): how many entries a row has.
        """
        further: dict[str, Any] = {"value": value, "mask": mask, "lengths": lengths}
        if to == "bucket":
            buckets = self.declaration.bucket_by_length
            if buckets is None:
                raise DatasetError('pad: to="bucket" needs buckets: say .bucket_by_length(...) before')
            further["boundaries"] = buckets.boundaries
        if to in ("longest", "bucket"):
            if truncate:
                raise DatasetError("pad: truncate=True needs a length to cut rows off at: say to=...")
            return self._finish(PadLongest, field=field, most=most, **further)
        if most is not None:
            raise DatasetError(f"pad: all rows get {to} entries: leave out most=..., or say to='longest'")
        return self._then(PadTo, field=field, length=to, truncate=truncate, **further)

    def ragged(self, field: str, *, most: int | None = None) -> Self:
        """Keep rows of different lengths as they are: a batch has a `Ragged`, of `values` and `row_splits`.

        Args:
            most: Entries of the longest row, for which room is kept; needed where the source does not know it.
        """
        return self._finish(RaggedRows, field=field, most=most)

    def text(self, field: str, *, most: int) -> Self:
        """Keep room for longer strings: a field of strings has 1,000 bytes for each unless told otherwise.

        Args:
            most: Bytes of the longest one, in UTF-8.
        """
        return self._finish(RaggedRows, kind="text", field=field, most=most)

    def mixup(
        self,
        alpha: float = 0.2,
        *,
        field: str | Sequence[str] = "image",
        label: str | Sequence[str] = "label",
        probability: float = 1.0,
    ) -> Self:
        """Mix each row with another one of its batch: share * row + (1 - share) * other, labels likewise.

        Rows that pad the last batch take no part. Of a shard, rows are mixed with that shard's.

        Args:
            alpha: Shares are drawn from Beta(alpha, alpha): the smaller, the closer to 0 and 1.
            field: A field, or several, mixed by the same share.
            label: Labels, or several: one-hot vectors or other floats.
            probability: Share of the rows that are mixed.
        """
        return self._finish(Mixup, alpha=alpha, field=field, label=label, probability=probability)

    def cutmix(
        self,
        alpha: float = 1.0,
        *,
        field: str | Sequence[str] = "image",
        label: str | Sequence[str] = "label",
        probability: float = 1.0,
    ) -> Self:
        """Put a box of another picture of its batch into each; labels are mixed by the area that each one has.

        Args:
            alpha: The area that stays is drawn from Beta(alpha, alpha).
            field: Pictures, or several of one size, such as a picture and its mask, of which the same box is cut.
            label: As for `mixup`, and so is `probability`.
        """
        return self._finish(CutMix, alpha=alpha, field=field, label=label, probability=probability)

    def map_batch(self, function: str | Callable[..., dict[str, Any]]) -> Self:
        """Call your function on every batch, when all its rows are there: a dict of arrays in, a dict of arrays out.

        All arrays have one row for each sample, in and out. The function is named as for `map`, and its random
        numbers are pinned in the same way. Of a shard, it sees that shard's rows.
        """
        tables = dict(self.tables)
        step = self._finish(MapBatch, function=named_or_carried(function, "map_batch", FUNCTION_ADVICE, tables))
        return replace(step, tables=tables)
