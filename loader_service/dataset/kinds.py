"""Every kind of source and step that a declaration may have: `kind` tells them apart, in files and messages, too."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BaseModel, Field

from loader_service.dataset.finish.lengths import PadLongest, RaggedRows
from loader_service.dataset.finish.map_batch import MapBatch
from loader_service.dataset.finish.mixing import CutMix, Mixup
from loader_service.dataset.selection.drawn import Balanced, Weighted
from loader_service.dataset.selection.filter import Filter
from loader_service.dataset.selection.runs import Skip, Take
from loader_service.dataset.selection.split import Split
from loader_service.dataset.sources.arrays import Arrays
from loader_service.dataset.sources.files import Files
from loader_service.dataset.sources.generator import Generator
from loader_service.dataset.sources.image_folder import ImageFolder
from loader_service.dataset.sources.joined import Concat, Mix
from loader_service.dataset.sources.keras_sequence import KerasSequence
from loader_service.dataset.sources.npy_files import NpyFiles
from loader_service.dataset.sources.pack import Pack
from loader_service.dataset.sources.paired_files import PairedFiles
from loader_service.dataset.sources.patches import Patches
from loader_service.dataset.sources.python import Python
from loader_service.dataset.sources.series import Series
from loader_service.dataset.sources.table import Table
from loader_service.dataset.sources.volumes import Volumes
from loader_service.dataset.transforms.albumentation import Albumentations
from loader_service.dataset.transforms.augment_images import AugmentImages
from loader_service.dataset.transforms.colour.channel_shift import RandomChannelShift
from loader_service.dataset.transforms.colour.grey import Grayscale, RandomGrayscale
from loader_service.dataset.transforms.colour.jitter import (
    ColorJitter,
    RandomBrightness,
    RandomContrast,
    RandomHue,
    RandomSaturation,
)
from loader_service.dataset.transforms.colour.tables import (
    RandomAutocontrast,
    RandomEqualize,
    RandomGamma,
    RandomInvert,
    RandomPosterize,
    RandomSolarize,
)
from loader_service.dataset.transforms.erasing import RandomErasing
from loader_service.dataset.transforms.geometry.affine import RandomRotate, RandomShear, RandomShift, RandomZoom
from loader_service.dataset.transforms.geometry.crops import CenterCrop, RandomCrop
from loader_service.dataset.transforms.geometry.elastic import RandomElastic
from loader_service.dataset.transforms.geometry.flip import RandomFlip
from loader_service.dataset.transforms.geometry.follow import Follow
from loader_service.dataset.transforms.geometry.pad_image import PadImage
from loader_service.dataset.transforms.geometry.perspective import RandomPerspective
from loader_service.dataset.transforms.geometry.resize import RandomResizedCrop, Resize
from loader_service.dataset.transforms.map import Map
from loader_service.dataset.transforms.map_rows import MapRows
from loader_service.dataset.transforms.moments import Moments
from loader_service.dataset.transforms.pad import PadTo
from loader_service.dataset.transforms.patch import CenterPatch, RandomPatch
from loader_service.dataset.transforms.quality.blur import RandomBlur, RandomSharpness
from loader_service.dataset.transforms.quality.jpeg import RandomJpeg
from loader_service.dataset.transforms.quality.noise import RandomNoise
from loader_service.dataset.transforms.rand_augment import RandAugment
from loader_service.dataset.transforms.series import RandomJitter, RandomScale, RandomTimeWarp, RandomWindow
from loader_service.dataset.transforms.standardize import Standardize
from loader_service.dataset.transforms.values import Cast, ClassIndex, Normalize, OneHot, Rescale
from loader_service.dataset.transforms.volumes import RandomVolumeFlip, RandomVolumeRot90, RandomVolumeRotation

AnySource = Annotated[
    ImageFolder
    | NpyFiles
    | Files
    | Table
    | PairedFiles
    | Pack
    | Arrays
    | Python
    | Series
    | Volumes
    | Patches
    | KerasSequence
    | Generator
    | Concat
    | Mix,
    Field(discriminator="kind"),
]
AnyTransform = Annotated[
    Resize
    | CenterCrop
    | RandomCrop
    | RandomResizedCrop
    | RandomPatch
    | PadImage
    | RandomFlip
    | RandomRotate
    | RandomShift
    | RandomShear
    | RandomZoom
    | RandomPerspective
    | RandomElastic
    | Follow
    | CenterPatch
    | AugmentImages
    | RandomWindow
    | RandomJitter
    | RandomScale
    | RandomTimeWarp
    | RandomVolumeFlip
    | RandomVolumeRot90
    | RandomVolumeRotation
    | Rescale
    | Normalize
    | Cast
    | OneHot
    | ClassIndex
    | PadTo
    | RandomBrightness
    | RandomContrast
    | RandomSaturation
    | RandomHue
    | ColorJitter
    | RandomGamma
    | RandomChannelShift
    | Grayscale
    | RandomGrayscale
    | RandomInvert
    | RandomSolarize
    | RandomPosterize
    | RandomEqualize
    | RandomAutocontrast
    | RandomBlur
    | RandomSharpness
    | RandomNoise
    | RandomJpeg
    | RandomErasing
    | RandAugment
    | Standardize
    | Map
    | MapRows
    | Albumentations
    | Moments,
    Field(discriminator="kind"),
]
AnyFinish = Annotated[PadLongest | RaggedRows | Mixup | CutMix | MapBatch, Field(discriminator="kind")]
AnySelection = Annotated[Take | Skip | Filter | Split | Balanced | Weighted, Field(discriminator="kind")]


def models_of(union: Any) -> tuple[type[BaseModel], ...]:
    """Return the models of one of these unions."""
    return get_args(get_args(union)[0])


def kind_of(model: type[BaseModel]) -> str:
    """Return what `kind` says of a source or step."""
    kind: str = model.model_fields["kind"].default
    return kind
