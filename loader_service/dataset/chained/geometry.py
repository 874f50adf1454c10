"""Where the pixels of pictures go; and of the masks, boxes and points that belong to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from loader_service.dataset.chained.declared import Declared
from loader_service.dataset.chained.turns import warn_of_turns
from loader_service.dataset.transforms.geometry.affine import RandomRotate, RandomShear, RandomShift, RandomZoom
from loader_service.dataset.transforms.geometry.crops import CenterCrop, RandomCrop
from loader_service.dataset.transforms.geometry.drawing import FillMode, Interpolation, Smooth
from loader_service.dataset.transforms.geometry.elastic import RandomElastic
from loader_service.dataset.transforms.geometry.flip import RandomFlip
from loader_service.dataset.transforms.geometry.follow import Follow
from loader_service.dataset.transforms.geometry.pad_image import PadImage
from loader_service.dataset.transforms.geometry.perspective import RandomPerspective
from loader_service.dataset.transforms.geometry.resize import RandomResizedCrop, Resize

Range = float | tuple[float, float]  # of one number, from minus that to it
Names = str | Sequence[str]


class Geometry(Declared):
    """Pictures cut, scaled, mirrored and warped. Steps that follow one another are done as one.

    What looks outside of the picture has `fill_mode`: "nearest" is the picture's edge, "constant" is `fill_value`,
    "reflect" the picture's mirror image, "wrap" the picture again.
    """

    def follow(
        self,
        image: str = "image",
        *,
        pictures: Names = (),
        masks: Names = (),
        boxes: Names = (),
        points: Names = (),
        mask_value: float = 0.0,
        outside: Literal["clip", "keep"] = "clip",
        visible: float = 0.0,
    ) -> Self:
        """Let fields go along with a picture: what moves its pixels, from here on, moves them in the same way.

        Args:
            image: The picture. Steps with this `field` act on all of them.
            pictures: Of the same size, and drawn with the interpolation that the step has.
            masks: (height, width) or (height, width, 1), of the same size: the nearest pixel is taken, whatever the
                interpolation.
            boxes: (n, 4), x1 y1 x2 y2 in pixels from the upper left edge of the picture, which itself is
                0 0 width height; n may differ from sample to sample. A box without area is padding, and stays as it is.
            points: (n, 2), x y in pixels; the centre of the first pixel is 0 0. They may leave the picture.
            mask_value: What lies outside of masks, with fill_mode "constant".
            outside: "clip" cuts boxes off at the edges of the picture, and makes zeros of those that have left it;
                "keep" leaves them as they are.
            visible: With "clip": a box of which less than this share is left becomes zeros, too.
        """
        names = {"pictures": pictures, "masks": masks, "boxes": boxes, "points": points}
        listed = {name: (given,) if isinstance(given, str) else given for name, given in names.items()}
        return self._then(Follow, image=image, **listed, mask_value=mask_value, outside=outside, visible=visible)

    def resize(
        self,
        height: int,
        width: int,
        *,
        interpolation: Interpolation = "bilinear",
        antialias: bool = True,
        field: str = "image",
    ) -> Self:
        """Scale pictures to (height, width) pixels, whatever their aspect ratio was.

        Args:
            interpolation: "nearest", "bilinear", "area", "cubic" or "lanczos".
            antialias: Whether scaling down by more than two takes all pixels into account, by halving the picture
                first; else fine patterns make coarse ones. "nearest" never does, "area" always.
        """
        options = {"interpolation": interpolation, "antialias": antialias}
        return self._then(Resize, height=height, width=width, **options, field=field)

    def center_crop(self, height: int, width: int, *, field: str = "image") -> Self:
        """Cut (height, width) pixels out of the middle."""
        return self._then(CenterCrop, height=height, width=width, field=field)

    def random_crop(self, height: int, width: int, *, field: str = "image") -> Self:
        """Cut (height, width) pixels out of anywhere."""
        return self._then(RandomCrop, height=height, width=width, field=field)

    def random_resized_crop(
        self,
        height: int,
        width: int,
        *,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: Interpolation = "bilinear",
        antialias: bool = True,
        field: str = "image",
    ) -> Self:
        """Cut out a part of `scale` of the area and of an aspect ratio in `ratio`; scale it to (height, width).

        Args:
            interpolation: As for `resize`.
            antialias: As for `resize`.
        """
        options = {"scale": scale, "ratio": ratio, "interpolation": interpolation, "antialias": antialias}
        return self._then(RandomResizedCrop, height=height, width=width, **options, field=field)

    def pad_image(
        self,
        padding: int | tuple[int, int] | None = None,
        *,
        height: int | None = None,
        width: int | None = None,
        fill_mode: FillMode = "constant",
        fill_value: float = 0.0,
        field: str = "image",
    ) -> Self:
        """Put room around pictures: `padding` pixels, or as much as they need to have (height, width) at least.

        Args:
            padding: On all sides; or (above and below, left and right).
            height: Pixels; the picture is in the middle. A larger one stays as it is.
        """
        options = {"padding": padding, "height": height, "width": width}
        return self._then(PadImage, **options, fill_mode=fill_mode, fill_value=fill_value, field=field)

    def random_flip(self, *, horizontal: float = 0.5, vertical: float = 0.0, field: str = "image") -> Self:
        """Mirror left-right and top-bottom, each with its probability."""
        return self._then(RandomFlip, horizontal=horizontal, vertical=vertical, field=field)

    def random_rotate(
        self,
        degrees: Range,
        *,
        interpolation: Smooth = "bilinear",
        fill_mode: FillMode = "nearest",
        fill_value: float = 0.0,
        probability: float = 1.0,
        field: str = "image",
    ) -> Self:
        """Turn pictures by a random angle: `20` is from -20 to 20 degrees. Angles above 0 turn to the left."""
        warn_of_turns("random_rotate", "degrees", degrees)
        options = {"interpolation": interpolation, "fill_mode": fill_mode, "fill_value": fill_value}
        return self._then(RandomRotate, degrees=degrees, **options, probability=probability, field=field)

    def random_shift(
        self,
        horizontal: Range = 0.0,
        vertical: Range = 0.0,
        *,
        interpolation: Smooth = "bilinear",
        fill_mode: FillMode = "nearest",
        fill_value: float = 0.0,
        probability: float = 1.0,
        field: str = "image",
    ) -> Self:
        """Move what is seen to the right and down, or back; below 1 it is a share of the picture, from 1 on pixels."""
        options = {"interpolation": interpolation, "fill_mode": fill_mode, "fill_value": fill_value}
        moved = {"horizontal": horizontal, "vertical": vertical}
        return self._then(RandomShift, **moved, **options, probability=probability, field=field)

    def random_shear(
        self,
        horizontal: Range = 0.0,
        vertical: Range = 0.0,
        *,
        interpolation: Smooth = "bilinear",
        fill_mode: FillMode = "nearest",
        fill_value: float = 0.0,
        probability: float = 1.0,
        field: str = "image",
    ) -> Self:
        """Let pictures lean, by random degrees: above 0 the top leans to the right, the right side upwards."""
        options = {"interpolation": interpolation, "fill_mode": fill_mode, "fill_value": fill_value}
        leans = {"horizontal": horizontal, "vertical": vertical}
        return self._then(RandomShear, **leans, **options, probability=probability, field=field)

    def random_zoom(
        self,
        zoom: Range,
        *,
        per_axis: bool = False,
        interpolation: Smooth = "bilinear",
        fill_mode: FillMode = "nearest",
        fill_value: float = 0.0,
        probability: float = 1.0,
        field: str = "image",
    ) -> Self:
        """Make what is seen larger, or smaller, by a random factor: `0.2` is from 0.8 to 1.2; 2 is twice as large.

        Args:
            per_axis: Whether height and width have factors of their own.
        """
        options = {"interpolation": interpolation, "fill_mode": fill_mode, "fill_value": fill_value}
        zoomed = {"zoom": zoom, "per_axis": per_axis}
        return self._then(RandomZoom, **zoomed, **options, probability=probability, field=field)

    def random_perspective(
        self,
        distortion: float = 0.5,
        *,
        interpolation: Smooth = "bilinear",
        fill_mode: FillMode = "nearest",
        fill_value: float = 0.0,
        probability: float = 1.0,
        field: str = "image",
    ) -> Self:
        """Move each corner inwards, by half of `distortion` of the sides at most, as if seen from aside."""
        options = {"interpolation": interpolation, "fill_mode": fill_mode, "fill_value": fill_value}
        return self._then(RandomPerspective, distortion=distortion, **options, probability=probability, field=field)

    def random_elastic(
        self,
        alpha: float = 50.0,
        sigma: float = 5.0,
        *,
        interpolation: Smooth = "bilinear",
        fill_mode: FillMode = "nearest",
        fill_value: float = 0.0,
        probability: float = 1.0,
        field: str = "image",
    ) -> Self:
        """Bend pictures: each pixel is shifted by noise, blurred over `sigma` pixels, times `alpha` pixels.

        The shifts have a standard deviation of about alpha / (6 sigma) pixels, in each direction.
        """
        options = {"interpolation": interpolation, "fill_mode": fill_mode, "fill_value": fill_value}
        bent = {"alpha": alpha, "sigma": sigma}
        return self._then(RandomElastic, **bent, **options, probability=probability, field=field)
