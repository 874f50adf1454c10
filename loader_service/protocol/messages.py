"""Every message of the protocol: commands in the imperative, facts in the past tense.

A message is a frozen dataclass, validated when it is made, on both sides. Its tag, not its class name, is what
crosses the wire. A new field gets a default, so that an older peer still decodes; a changed meaning gets a new
PROTOCOL number, which the two sides compare in `Hello` before anything else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform, get_args

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from loader_service.protocol.ledger import BadSample
from loader_service.protocol.shard import Shard
from loader_service.protocol.spec import DatasetInfo
from loader_service.protocol.tables import Hash, TableRef

PROTOCOL = 1

MOST_PREFETCH = 65536  # batches
MOST_WORKERS = 4096
MOST_TOLD = 1000  # bad samples in one message; of a long ledger, several travel
MOST_BATCHES = 2**62 - 1  # the last one of a run: what is asked for ahead of it has a number, too
MOST_SLOTS = 2 * MOST_PREFETCH  # of one stream: those that it asked for, and those that it keeps
MOST_LAYERS = 32  # of lists and tables inside each other, in a declaration

Count = Annotated[int, Field(ge=0, lt=2**31)]
Number = Annotated[int, Field(ge=0, lt=2**63)]  # a batch number: counts from 0 for the life of a run
Prefetch = Annotated[int, Field(ge=1, le=MOST_PREFETCH)]
Identity = Annotated[bytes, Field(min_length=16, max_length=16)]
Text = Annotated[str, Field(max_length=1_000_000)]
Name = Annotated[str, Field(max_length=1000)]
Slots = Annotated[list[Count], Field(max_length=MOST_SLOTS)]


def _shallow(plain: dict[str, Any]) -> dict[str, Any]:
    """Refuse what is nested so deep that it could neither be walked nor packed again."""
    layer: list[Any] = [plain]
    for _ in range(MOST_LAYERS):
        values = (value for outer in layer for value in (outer.values() if isinstance(outer, dict) else outer))
        layer = [value for value in values if isinstance(value, dict | list | tuple)]
        if not layer:
            return plain
    raise ValueError(f"more than {MOST_LAYERS} lists and tables inside each other")


Plain = Annotated[dict[str, Any], AfterValidator(_shallow)]

T = TypeVar("T")
TAGS: dict[str, type[Any]] = {}


@dataclass_transform(frozen_default=True)
def message(tag: str) -> Callable[[type[T]], type[T]]:
    """Make a class a message, known on the wire as `tag`."""

    def register(cls: type[T]) -> type[T]:
        made = dataclass(frozen=True, config=ConfigDict(extra="ignore"))(cls)
        made.tag = tag  # type: ignore[attr-defined]
        TAGS[tag] = made
        return made  # type: ignore[return-value]

    return register


# -- on the lifeline: who is who, and the descriptors that ZeroMQ cannot carry ------------------------------


@message("hello")
class Hello:
    """Client or worker -> daemon. The first packet; `identity` is the sender's routing id on ZeroMQ."""

    protocol: int
    role: Literal["client", "worker"]
    identity: Identity
    version: Name


@message("welcome")
class Welcome:
    """Daemon -> client or worker. The peer may speak on ZeroMQ now."""

    version: Name
    pid: int


@message("failed")
class Failed:
    """Any -> any. An error as text; on the lifeline, in place of Welcome, a refusal."""

    name: str
    message: Text
    notes: list[Text]


@message("share_arena")
class ShareArena:
    """Daemon -> client or worker, with a descriptor. The slots of one dataset key."""

    arena: Count
    nbytes: Number


@message("share_table")
class ShareTable:
    """Any -> any, with a descriptor. A table that a later message names."""

    table: Hash


# -- client -> daemon ---------------------------------------------------------------------------------------


@message("open_stream")
class OpenStream:
    """Client -> daemon. `dataset` is its plain form, or the name that the daemon's config gives it."""

    stream: Count
    dataset: Plain | Name
    prefetch: Annotated[int, Field(ge=0, le=MOST_PREFETCH)]  # 0: as many as the daemon thinks right
    shard: Shard  # rows of every batch that the stream is about
    bundles: bool = False  # whether small batches may come in bundles: to the stream, each is one batch


@message("request_batches")
class RequestBatches:
    """Client -> daemon. "I want the batches `first` to `last`", both included; `returned` slots go back first."""

    stream: Count
    first: Number
    last: Number
    returned: Slots = Field(default_factory=list)


@message("return_slots")
class ReturnSlots:
    """Client -> daemon. The last array over these slots is gone: they may be filled again."""

    stream: Count
    slots: Slots


@message("reset_stream")
class ResetStream:
    """Client -> daemon. The cursor moved: all that was asked for or lent is void, but for the slots in `keeps`.

    What the daemon lent before it read this may still be under way: it carries an older `round`, and the client
    ignores it.
    """

    stream: Count
    round: Number  # of the batches that are asked for from here on
    keeps: Slots  # slots under arrays that are alive


@message("close_stream")
class CloseStream:
    """Client -> daemon. No array over any slot of this stream is left."""

    stream: Count


@message("get_status")
class GetStatus:
    """Client -> daemon. Answered by Status."""


@message("scale")
class Scale:
    """Client -> daemon. Answered by Status when `workers` processes run, or by Failed."""

    workers: Annotated[int, Field(ge=1, le=MOST_WORKERS)]


@message("stop")
class Stop:
    """Client -> daemon. End every stream, then the daemon; the lifeline's end is the answer."""


# -- daemon -> client ---------------------------------------------------------------------------------------


@message("stream_opened")
class StreamOpened:
    """Daemon -> client. Answers OpenStream, after the arena went over the lifeline."""

    stream: Count
    info: DatasetInfo
    arena: Count
    prefetch: Prefetch  # how many batches it may ask ahead: no more than it wanted
    views: Count  # how many batches it may keep as views; beyond that it copies
    latest: Number  # the oldest batch that the foremost stream of the same dataset still has ahead
    doubts: list[Text]  # what seems wrong with the user's code, in sentences


@message("stream_failed")
class StreamFailed:
    """Daemon -> client. The stream could not be opened, or has ended."""

    stream: Count
    error: Failed


@message("batches_ready")
class BatchesReady:
    """Daemon -> client. Each (n, slot, rows) belongs to the client until it returns the slot."""

    stream: Count
    round: Number  # of the last ResetStream that the daemon had read
    batches: list[tuple[Number, Count, Count]]


@message("batch_failed")
class BatchFailed:
    """Daemon -> client. Batch `n` cannot be made."""

    stream: Count
    round: Number
    n: Number
    error: Failed


@message("samples_replaced")
class SamplesReplaced:
    """Daemon -> client. Further samples cannot be made, and are replaced in all batches from here on.

    Before StreamOpened: those that have been replaced so far.
    """

    stream: Count
    samples: list[BadSample]


@message("status")
class Status:
    """Daemon -> client. The object that `status --json` prints."""

    status: dict[str, Any]


# -- daemon -> worker ---------------------------------------------------------------------------------------


@message("open_dataset")
class OpenDataset:
    """Daemon -> worker. `index` is empty on the first worker, which makes it, and answers DatasetOpened."""

    dataset: Count
    declaration: dict[str, Any]
    index: dict[str, TableRef]
    shard: Shard  # what the rows of a slot are; tasks count rows from its first one
    key: str  # that the dataset had when its index was made; empty until then
    replaced: list[Number] = Field(default_factory=list)  # with an index: the samples that are, so far
    blame: Text = ""  # without: what is said of its first sample, which is not to be touched
    bundles: bool = False  # whether small batches are to be made in bundles


@message("replace_samples")
class ReplaceSamples:
    """Daemon -> worker. Replace these samples, too, in all rows of later tasks."""

    dataset: Count
    samples: list[Number]


@message("close_dataset")
class CloseDataset:
    """Daemon -> worker. Nobody reads this dataset any more: let go of its arena, its files and its tables."""

    dataset: Count


Piece = tuple[Count, Number, Count, Count]  # slot, n, first row, row after the last


@message("fill_rows")
class FillRows:
    """Daemon -> worker. A task: make these rows, in this order; if it is to be announced, RowsBegun comes before.

    With `blame`, there is one row, which is not to be made: answer RowsFailed, with its sample's name and these words.
    """

    task: Number
    dataset: Count
    arena: Count
    pieces: list[Piece]
    blame: Text = ""
    announce: bool = False  # a worker may have died of it


@message("leave")
class Leave:
    """Daemon -> worker. Nothing is left to do for you: end."""


# -- worker -> daemon ---------------------------------------------------------------------------------------


@message("samples_known")
class SamplesKnown:
    """Worker -> daemon. Before DatasetOpened: what the file of a key's ledger holds, and what was found since."""

    key: str
    samples: list[BadSample]


@message("dataset_opened")
class DatasetOpened:
    """Worker -> daemon. What a stream over the dataset must know; the tables of `index` went over the lifeline."""

    dataset: Count
    info: DatasetInfo
    index: dict[str, TableRef]
    doubts: list[Text]  # what seems wrong with the user's code, in sentences
    proof: Name = ""  # the hash of a batch, where another worker should come to the same


@message("dataset_refused")
class DatasetRefused:
    """Worker -> daemon. The dataset cannot be opened."""

    dataset: Count
    error: Failed


@message("rows_begun")
class RowsBegun:
    """Worker -> daemon, over the lifeline: what is said there is heard, even if the worker dies the moment after."""

    task: Number


@message("rows_filled")
class RowsFilled:
    """Worker -> daemon. All pieces of a task are written."""

    task: Number
    seconds: Annotated[float, Field(ge=0)]  # that the task took


@message("rows_failed")
class RowsFailed:
    """Worker -> daemon. Piece `piece` of a task failed; those before it are written, those after untouched."""

    task: Number
    piece: Count
    error: Failed
    sample: BadSample | None = None  # that the error is about


@message("worker_joined")
class WorkerJoined:
    """Worker -> daemon. Its first message: it accepts tasks."""


# -- daemon <-> template, the process that workers are forked from ------------------------------------------


@message("start_worker")
class StartWorker:
    """Daemon -> template. Fork a worker, known to the daemon as `worker`."""

    worker: Count


@message("worker_started")
class WorkerStarted:
    """Template -> daemon, with the worker's pidfd: a handle that no other process can ever inherit by its pid."""

    worker: Count
    pid: Count


@message("worker_ended")
class WorkerEnded:
    """Template -> daemon. The worker is dead and reaped: it writes nowhere any more."""

    worker: Count
    status: int  # of os.waitpid


FromClient = OpenStream | RequestBatches | ReturnSlots | ResetStream | CloseStream | GetStatus | Scale | Stop
ToClient = StreamOpened | StreamFailed | BatchesReady | BatchFailed | SamplesReplaced | Status | Failed
ToWorker = OpenDataset | ReplaceSamples | CloseDataset | FillRows | Leave
FromWorker = WorkerJoined | SamplesKnown | DatasetOpened | DatasetRefused | RowsFilled | RowsFailed
OnLifeline = Hello | Welcome | Failed | ShareArena | ShareTable | RowsBegun
FromTemplate = WorkerStarted | WorkerEnded


def tags_of(union: Any) -> dict[str, type[Any]]:
    """Return the messages of a union by their tags.

    >>> sorted(tags_of(FromTemplate))
    ['worker_ended', 'worker_started']
    """
    return {kind.tag: kind for kind in get_args(union)}
