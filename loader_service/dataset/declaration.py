"""A dataset as plain data: what the chained methods build, the TOML file holds, and messages carry."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import cv2
import simplejpeg
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from loader_service.dataset.buckets import Buckets
from loader_service.dataset.cache.step import Cache
from loader_service.dataset.kinds import AnyFinish, AnySelection, AnySource, AnyTransform, kind_of, models_of
from loader_service.dataset.objects import CODE_TAGS
from loader_service.dataset.sources.joined import Concat, Mix
from loader_service.dataset.transforms.map import UserFunction
from loader_service.dataset.user_code import UserCode
from loader_service.protocol.errors import DatasetError, nearest

EXPECTED = {  # pydantic's types of errors, in the words of a file
    "dict_type": "expected a table",
    "model_attributes_type": "expected a table",
    "model_type": "expected a table",
    "string_pattern_mismatch": 'expected an import path, as in "my_module:attribute"',
    "tuple_type": "expected a list",
}
MAX_SHOWN = 300  # characters of a wrong value
DECODERS = [cv2.__version__, simplejpeg.__version__]  # which make the pixels that are kept
MAX_TOLD = 100  # characters of a list of names in a part of the key


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Shuffle(_Plain):
    """A new order each epoch, the same for the same seed."""

    seed: Annotated[int, Field(ge=0, lt=2**63, description="Sets the order, and all that is random.")] = 0


class Batch(_Plain):
    """How many rows a batch has, and what becomes of an epoch's last, short one."""

    size: Annotated[int, Field(ge=1, lt=2**31, description="Rows.")]
    remainder: Literal["keep", "drop", "pad"] = Field(
        "keep",
        description="An epoch's last rows, if they fill no batch: keep them, drop them, or pad with rows of weight 0.",
    )


class OnError(_Plain):
    """What becomes of a sample that cannot be made: its file is damaged, your function raises, it kills workers."""

    policy: Literal["raise", "replace"] = Field(
        description="Raise an error that names it, or replace it by another sample, always the same one."
    )
    most: Annotated[float, Field(gt=0, le=1, description="Share of the samples that may be replaced.")] = 0.01

    def most_replaced(self, samples: int) -> int:
        """Return how many of `samples` may be replaced: at least one, never all.

        >>> [OnError(policy="replace").most_replaced(samples) for samples in (1, 2, 150, 1000)]
        [0, 1, 1, 10]
        """
        if self.policy == "raise":
            return 0
        return min(max(1, math.floor(self.most * samples + 1e-9)), samples - 1)


class Part(_Plain):
    """What can be put together with others: a source, what happens to its samples, and which of them there are.

    The steps of `select` follow one another. They choose among the samples as they are at the source: transforms
    change no sample's number, so it does not matter which are declared first.
    """

    source: AnySource
    transforms: tuple[AnyTransform, ...] = ()
    select: tuple[AnySelection, ...] = ()

    @model_validator(mode="after")
    def _draws_last(self) -> Self:
        if told := self.misplaced():
            raise ValueError(told)
        return self

    @property
    def draws(self) -> bool:
        """Whether each epoch has its own samples."""
        return self.source.draws or any(step.draws for step in self.select)

    def misplaced(self) -> str | None:
        """Return what is wrong with the order of the steps, if anything is."""
        drawing: str | None = self.source.kind if self.source.draws else None
        for step in self.select:
            if drawing:
                return (
                    f"{step.kind} stands behind {drawing}, whose samples are others in each epoch: nothing can be "
                    "selected from these. Put it before"
                )
            drawing = step.kind if step.draws else None
        return None

    def user_code(self) -> list[UserCode]:
        """Return every user module that is named."""
        mapped = (step.function for step in self.transforms if isinstance(step, UserFunction))
        named = [code for code in mapped if isinstance(code, UserCode)]
        return [*self.source.user_code(), *named, *(code for step in self.select for code in step.user_code())]


for _joined in (Concat, Mix):
    _joined.model_rebuild(_types_namespace={"Part": Part})
Part.model_rebuild()


class Declaration(Part):
    """All that a dataset is, apart from the content of what it names."""

    finish: tuple[AnyFinish, ...] = ()
    shuffle: Shuffle | None = None
    bucket_by_length: Buckets | None = None
    batch: Batch | None = None
    on_error: OnError | None = None  # None: raise
    cache: Cache | None = None  # it changes no sample, and so no key

    @model_validator(mode="before")
    @classmethod
    def _cache_among_the_transforms(cls, given: Any) -> Any:
        """Take `{ kind = "cache" }` out of a list of transforms: it counts as none, or their numbers would change."""
        steps = given.get("transforms") if isinstance(given, dict) else None
        if not isinstance(steps, list | tuple):
            return given
        at = [place for place, step in enumerate(steps) if isinstance(step, dict) and step.get("kind") == "cache"]
        if not at:
            return given
        if len(at) > 1 or given.get("cache") is not None:
            raise ValueError("there are two caches: one is enough, behind all that is to be kept")
        options = {name: value for name, value in steps[at[0]].items() if name != "kind"}
        rest = [step for place, step in enumerate(steps) if place != at[0]]
        return {**given, "transforms": rest, "cache": {"after": at[0], **options}}

    @model_validator(mode="after")
    def _cache_is_sound(self) -> Self:
        if self.cache is None:
            return self
        if self.source.live or self.source.whole:
            what = "live" if self.source.live else "whole batches"
            raise ValueError(f"cache: {self.source.kind} is read {what}: there are no samples that come again")
        for step in self.transforms[: self.cache.after]:
            if step.is_random:
                raise ValueError(
                    f"cache: {step.kind} stands before it, and makes something else in each epoch: put .cache() first"
                )
        return self

    @field_validator("on_error")
    @classmethod
    def _unsaid(cls, said: OnError | None) -> OnError | None:
        """Leave the default away: a dataset that says it is no other than one that does not."""
        return None if said is not None and said.policy == "raise" else said

    def steps_by_number(self) -> list[str]:
        """Return the steps that need samples to have numbers."""
        said = {"shuffle": self.shuffle, "bucket_by_length": self.bucket_by_length, "on_error": self.on_error}
        return [*(step.kind for step in self.select), *(name for name, what in said.items() if what is not None)]

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Declaration:
        """Validate plain data.

        Raises:
            DatasetError: Names the key that is wrong, and what was expected of it.
        """
        try:
            return cls.model_validate(plain)
        except ValidationError as error:
            raise DatasetError(explain(error)) from None

    def to_plain(self) -> dict[str, Any]:
        """Return plain data: dicts, lists, strings, numbers."""
        plain = self.model_dump(mode="json", exclude_none=True)
        if not self.finish:
            del plain["finish"]
        return plain

    def lasting(self) -> dict[str, Any]:
        """Return plain data that is the same in each run, of all that samples and batches depend on."""
        return {name: value for name, value in _lasting(self.to_plain()).items() if name != "cache"}

    def cache_address(self, index: dict[str, str]) -> tuple[str, dict[str, Any]]:
        """Return the hash of all that the samples in the cache depend on, and what people are told of it.

        Args:
            index: The hash of each array of the source's index.
        """
        assert self.cache is not None, "asked only where there is one"
        kept = self.model_copy(update={"transforms": self.transforms[: self.cache.after], "finish": (), "select": ()})
        plain = kept.lasting()
        chain = {"source": plain["source"], "transforms": plain["transforms"]}
        code = [digest for _, digest in kept.hashed_code()]
        return _hash([chain, index, code, DECODERS], 16), {"steps": _kinds(kept.transforms, "none"), **chain}

    @property
    def seed(self) -> int:
        """Return the seed of order and augmentation; 0 where nothing is shuffled."""
        return self.shuffle.seed if self.shuffle else 0

    def user_code(self) -> list[UserCode]:
        """Return every user module that the dataset names."""
        own = [step.function for step in self.finish if isinstance(step, UserFunction)]
        return super().user_code() + [code for code in own if isinstance(code, UserCode)]

    def hashed_code(self) -> list[tuple[str, str]]:
        """Return every user module that the dataset names, with the hash of its source as it is now."""
        return [(code.module, code.digest()) for code in self.user_code()]

    def key(self, index: dict[str, str], code: list[tuple[str, str]]) -> str:
        """Return the dataset's key; `index` holds the hash of each array of the source's index."""
        return _hash([self.lasting(), index, [digest for _, digest in code]], 16)

    def parts(self, index: dict[str, str], code: list[tuple[str, str]]) -> dict[str, str]:
        """Return what the key is made of, as `DatasetInfo.parts` tells it; some 300 characters at most."""
        plain = self.to_plain()
        modules = {f"code of {module}": f"#{_hash(digest)}" for module, digest in code}
        if len("".join(modules)) > MAX_TOLD:
            modules = {"code": f"#{_hash(modules)}"}
        return {
            "source": f"{self.source.kind} #{_hash(_lasting(plain['source']))}",
            "index": f"#{_hash(index)}",
            "transforms": f"{_kinds(self.transforms, 'none')} #{_hash(_lasting(plain['transforms']))}",
            "selection": f"{_kinds(self.select, 'all samples')} #{_hash(plain['select'])}",
            **({"finish": f"{_kinds(self.finish, '')} #{_hash(_lasting(plain['finish']))}"} if self.finish else {}),
            "order": f"seed {self.shuffle.seed}" if self.shuffle else "not shuffled",
            **({"buckets": f"#{_hash(plain['bucket_by_length'])}"} if self.bucket_by_length else {}),
            "batch": f"{self.batch.size} rows, {self.batch.remainder}" if self.batch else "none",
            "bad samples": f"replaced, {self.on_error.most:.2%} at most" if self.on_error else "raise",
            **modules,
        }


def _kinds(steps: Sequence[AnyTransform | AnySelection | AnyFinish], none: str) -> str:
    kinds = ", ".join(step.kind for step in steps) or none
    return kinds if len(kinds) <= MAX_TOLD else f"{len(steps)} of them"


def _lasting(plain: Any) -> Any:
    """Return plain data without what is another in each run: of objects that travel, their digest alone is left."""
    if isinstance(plain, dict):
        return plain["digest"] if "carried" in plain else {key: _lasting(value) for key, value in plain.items()}
    return [_lasting(value) for value in plain] if isinstance(plain, list) else plain


def _hash(plain: Any, nbytes: int = 4) -> str:
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=nbytes).hexdigest()


def explain(error: ValidationError) -> str:
    """Return the first thing that is wrong, in a sentence; a misspelt name with the nearest valid one.

    >>> try: Batch(size=0)
    ... except ValidationError as error: print(explain(error))
    size: input should be greater than or equal to 1, got 0
    """
    # A misspelt key is also a missing one: tell of the spelling.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    *path, last = first["loc"] or ("",)
    if first["type"] == "extra_forbidden":
        return _at(path, f"there is no key {last!r}; {nearest(str(last), _keys_at(path))}")
    if first["type"] == "union_tag_invalid":
        kinds = [kind.strip("'") for kind in first["ctx"]["expected_tags"].split(", ")]
        return _at(first["loc"], f"there is no kind {first['ctx']['tag']!r}; {nearest(first['ctx']['tag'], kinds)}")
    if first["type"] == "missing":
        return _at(path, f"{last!r} is missing")
    if first["type"] == "union_tag_not_found":
        union = {"source": AnySource, "select": AnySelection, "finish": AnyFinish}.get(
            str(last if last == "source" else path[-1]), AnyTransform
        )
        return _at(first["loc"], f"'kind' is missing; {nearest('', [kind_of(model) for model in models_of(union)])}")
    message = EXPECTED.get(first["type"], first["msg"].removeprefix("Value error, "))
    got = repr(first["input"])
    got = got if len(got) <= MAX_SHOWN else f"{got[:MAX_SHOWN]}..."
    return _at(first["loc"], f"{message[:1].lower()}{message[1:]}, got {got}")


def _at(path: Sequence[int | str], told: str) -> str:
    return f"{'.'.join(str(part) for part in path if part not in CODE_TAGS)}: {told}".removeprefix(": ")


def _keys_at(path: Sequence[int | str]) -> list[str]:
    """Return the keys that the table at this place may have."""
    tables: dict[int | str, type[BaseModel]] = {
        "shuffle": Shuffle,
        "batch": Batch,
        "bucket_by_length": Buckets,
        "on_error": OnError,
        "cache": Cache,
        "parts": Part,
    }
    for union in (AnySource, AnyTransform, AnyFinish, AnySelection):
        tables.update((kind_of(model), model) for model in models_of(union))
    table = next((tables[part] for part in reversed(path) if part in tables), Declaration)
    return list(table.model_fields)
