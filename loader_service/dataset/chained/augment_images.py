"""The arguments of Keras' `ImageDataGenerator`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from loader_service.dataset.chained.declared import Declared
from loader_service.dataset.chained.turns import warn_of_turns
from loader_service.dataset.given import PathLike
from loader_service.dataset.statistics.stats import Stats
from loader_service.dataset.transforms.augment_images import AugmentImages
from loader_service.dataset.transforms.geometry.drawing import FillMode
from loader_service.protocol.errors import DatasetError

Shift = int | float | Sequence[int | float]


class ImageDataGeneratorArguments(Declared):
    """`augment_images`, for those who come from there."""

    def augment_images(
        self,
        *,
        rotation_range: float = 0.0,
        width_shift_range: Shift = 0.0,
        height_shift_range: Shift = 0.0,
        brightness_range: tuple[float, float] | None = None,
        shear_range: float = 0.0,
        zoom_range: float | tuple[float, float] = 0.0,
        channel_shift_range: float = 0.0,
        fill_mode: FillMode = "nearest",
        cval: float = 0.0,
        horizontal_flip: bool = False,
        vertical_flip: bool = False,
        rescale: float | None = None,
        samplewise_center: bool = False,
        samplewise_std_normalization: bool = False,
        featurewise_center: bool = False,
        featurewise_std_normalization: bool = False,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        stats: Stats | PathLike | None = None,
        interpolation_order: int = 1,
        value_range: tuple[float, float] | None = None,
        zca_whitening: bool = False,
        field: str = "image",
    ) -> Self:
        """Augment pictures as `ImageDataGenerator` with these arguments does, by one warp.

        Its arguments have the meanings that they have in Keras, whose ways are kept where they surprise: the width's
        shifts move pictures up and down, the height's to the sides (keras-team/keras issue 17398); and pictures that
        are not square are turned about a point beside their centre. Pictures of uint8 stay that, unless they are
        rescaled or standardised, which makes float32. Alpha, the fourth channel, is moved with the others, and its
        shades are left alone.

        Args:
            rotation_range: Degrees, to either side.
            width_shift_range: A float below 1 is a share of the width, to either side, another one pixels; of a whole
                number n, one of 0 .. n - 1 pixels is chosen, of a list one of its numbers, each with either sign.
            height_shift_range: The same, of the height.
            brightness_range: Least and largest factor.
            shear_range: Degrees, to either side.
            zoom_range: Least and largest factor, drawn for each axis anew, below 1 to enlarge; z means (1 - z, 1 + z).
            channel_shift_range: What is added to all channels alike, at most, in shades of the picture.
            fill_mode: What lies outside the picture: "nearest", "constant", "reflect" or "wrap".
            cval: The shade outside, with "constant".
            horizontal_flip: Mirror left-right, every other picture.
            vertical_flip: Mirror top-bottom, every other picture.
            rescale: Factor for all values, after all of the above.
            samplewise_center: Subtract the mean of each picture.
            samplewise_std_normalization: Divide by the deviation of each picture; it centers, too.
            featurewise_center: Subtract `mean`.
            featurewise_std_normalization: Divide by `std`; it centers, too.
            mean: Of rescaled pictures, as `ImageDataGenerator.mean` has it; one number, or one for each channel.
            std: The same, for the deviation.
            stats: What `stats()` returned of pictures before this step, or its file, in place of mean and std.
            interpolation_order: 1, bilinear; or 0, the nearest pixel.
            value_range: Of brightened values: 0 .. 255 for uint8, 0 .. 1 for floats, if nothing is said.
            zca_whitening: Refused: the error says what to do.
        Raises:
            DatasetError: If an argument is wrong; names it.
        """
        for name, degrees in (("rotation_range", rotation_range), ("shear_range", shear_range)):
            warn_of_turns("augment_images", name, degrees)
        if stats is not None:
            if mean is not None or std is not None:
                raise DatasetError("augment_images: mean and std come from stats: give either")
            factor = 1.0 if rescale is None else float(rescale)
            found_mean, found_std = (stats if isinstance(stats, Stats) else Stats.load(stats)).scale_of(field)
            mean = (np.asarray(found_mean) * factor).tolist()
            std = (np.asarray(found_std) * abs(factor)).tolist()
        return self._then(
            AugmentImages,
            rotation_range=rotation_range,
            width_shift_range=_plain(width_shift_range),
            height_shift_range=_plain(height_shift_range),
            brightness_range=brightness_range,
            shear_range=shear_range,
            zoom_range=zoom_range,
            channel_shift_range=channel_shift_range,
            fill_mode=fill_mode,
            cval=cval,
            horizontal_flip=horizontal_flip,
            vertical_flip=vertical_flip,
            rescale=rescale,
            samplewise_center=samplewise_center,
            samplewise_std_normalization=samplewise_std_normalization,
            featurewise_center=featurewise_center,
            featurewise_std_normalization=featurewise_std_normalization,
            mean=mean,
            std=std,
            interpolation_order=interpolation_order,
            value_range=value_range,
            zca_whitening=zca_whitening,
            field=field,
        )


def _plain(shift: Shift) -> Shift:
    """Return Python's own numbers: a whole one means another thing than a float, and NumPy's are neither."""
    plain: Shift = np.asarray(shift).tolist() if isinstance(shift, np.ndarray | np.generic) else shift
    return plain
