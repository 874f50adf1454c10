from dataclasses import MISSING, fields

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loader_service.protocol.codec import MAX_NBYTES, decode, encode, error_of, failed
from loader_service.protocol.errors import MAX_TEXT, ProtocolError, SampleError
from loader_service.protocol.ledger import BadSample
from loader_service.protocol.messages import (
    MOST_LAYERS,
    TAGS,
    CloseStream,
    Failed,
    FillRows,
    FromClient,
    Hello,
    OpenStream,
    RequestBatches,
    RowsBegun,
    Status,
    StreamOpened,
    tags_of,
)
from loader_service.protocol.shard import WHOLE, Shard
from loader_service.protocol.spec import FieldSpec
from loader_service.protocol.tables import TableRef

FAILURE = Failed("SampleError", "sample 3: it is no picture", ["Traceback", "two"])
BAD = BadSample(2**62, "cats/3.jpg", "it is no picture")
TABLE = TableRef("0123456789abcdef" * 2, "int64", (5, 2))
DESCRIBED = {
    "key": "0a" * 16,
    "spec": {"image": FieldSpec((224, 224, 3), "uint8"), "label": FieldSpec((), "int64")},
    "batch_size": 64,
    "samples": 2**40,
    "batches_per_epoch": 2**34,
    "shuffled": True,
    "inputs": ["image"],
    "targets": ["label"],
    "class_names": ["rosé", ""],
}
EXAMPLES = {
    "hello": {"protocol": 1, "role": "worker", "identity": bytes(range(16)), "version": "0.1.0"},
    "welcome": {"version": "0.1.0", "pid": 17},
    "failed": {"name": "NoDaemon", "message": "gone\n", "notes": ["a", "b"]},
    "share_arena": {"arena": 0, "nbytes": 2**40},
    "share_table": {"table": "0a" * 16},
    "open_stream": {
        "stream": 3,
        "dataset": {"batch": {"size": 4}, "transforms": [1.5, None]},
        "prefetch": 8,
        "shard": WHOLE,
        "bundles": True,
    },
    "request_batches": {"stream": 3, "first": 2**62, "last": 2**63 - 1, "returned": [0, 7]},
    "return_slots": {"stream": 3, "slots": [1, 2]},
    "reset_stream": {"stream": 3, "round": 4, "keeps": [9]},
    "close_stream": {"stream": 3},
    "get_status": {},
    "scale": {"workers": 16},
    "stop": {},
    "stream_opened": {
        "stream": 3,
        "info": DESCRIBED,
        "arena": 2,
        "prefetch": 8,
        "views": 4,
        "latest": 7,
        "doubts": ["?"],
    },
    "stream_failed": {"stream": 3, "error": FAILURE},
    "batches_ready": {"stream": 3, "round": 0, "batches": [(0, 1, 64), (2**62, 13, 5)]},
    "batch_failed": {"stream": 3, "round": 1, "n": 12, "error": FAILURE},
    "samples_replaced": {"stream": 3, "samples": [BAD, BAD]},
    "status": {"status": {"workers": [{"pid": 1, "state": "idle"}], "version": "0.1.0"}},
    "open_dataset": {
        "dataset": 2,
        "declaration": {"source": {"kind": "arrays"}},
        "index": {"sizes": TABLE},
        "shard": Shard(1, 2),
        "key": "0a" * 16,
        "replaced": [3, 2**62],
        "blame": "three died",
        "bundles": True,
    },
    "replace_samples": {"dataset": 2, "samples": [3, 2**62]},
    "close_dataset": {"dataset": 2},
    "fill_rows": {
        "task": 9,
        "dataset": 2,
        "arena": 2,
        "pieces": [(0, 2**62, 0, 32), (1, 1, 32, 64)],
        "blame": "",
        "announce": True,
    },
    "leave": {},
    "samples_known": {"key": "0a" * 16, "samples": [BAD]},
    "dataset_opened": {"dataset": 2, "info": DESCRIBED, "index": {"sizes": TABLE}, "doubts": [], "proof": "0a"},
    "dataset_refused": {"dataset": 2, "error": FAILURE},
    "rows_begun": {"task": 9},
    "rows_filled": {"task": 9, "seconds": 0.25},
    "rows_failed": {"task": 9, "piece": 1, "error": FAILURE, "sample": BAD},
    "worker_joined": {},
    "start_worker": {"worker": 1},
    "worker_started": {"worker": 1, "pid": 4711},
    "worker_ended": {"worker": 1, "status": 9},
}


def test_every_message_has_an_example_here():
    assert set(EXAMPLES) == set(TAGS)


@pytest.mark.parametrize("tag", TAGS)
def test_a_message_comes_back_as_it_was_sent(tag):
    message = TAGS[tag](**EXAMPLES[tag])

    returned = decode(encode(message))

    assert returned == message
    assert type(returned) is TAGS[tag]


@pytest.mark.parametrize("tag", [tag for tag in TAGS if EXAMPLES[tag]])
def test_a_message_without_one_of_its_fields_is_refused_by_name(tag):
    """An older peer must be told what it left out, not be served half a message."""
    required = [field.name for field in fields(TAGS[tag]) if field.default is field.default_factory is MISSING]

    for name in required:
        rest = {key: value for key, value in EXAMPLES[tag].items() if key != name}
        packed = msgpack.packb([tag, rest], default=lambda value: value.__dict__)
        with pytest.raises(ProtocolError, match=f"message '{tag}', field '{name}'"):
            decode(packed)


def test_a_field_of_a_newer_peer_is_ignored():
    packed = msgpack.packb(["close_stream", {"stream": 3, "politely": True}])

    assert decode(packed) == CloseStream(3)


def test_a_missing_new_field_has_its_default():
    packed = msgpack.packb(["request_batches", {"stream": 3, "first": 0, "last": 1}])

    assert decode(packed) == RequestBatches(3, 0, 1, [])


@pytest.mark.parametrize(
    "content",
    [
        [],
        ["leave"],
        ["leave", {}, 3],
        ["leave", []],
        ["leave", None],
        [[], {}],
        [{"a": 1}, {}],
        ["unheard_of", {}],
        {"leave": {}},
        ["close_stream", {"stream": -1}],
        ["close_stream", {"stream": 2**31}],
        ["close_stream", {"stream": "x"}],
        ["fill_rows", {**EXAMPLES["fill_rows"], "pieces": [(1, 2, 3)]}],
        ["hello", {**EXAMPLES["hello"], "identity": b"short"}],
        ["rows_filled", {"task": 1, "seconds": float("nan")}],
        ["share_table", {"table": "../../etc/passwd"}],
        ["close_stream", {"__dataclass_self__": 1, "stream": 1}],
    ],
)
def test_well_formed_nonsense_is_a_protocol_error(content):
    with pytest.raises(ProtocolError):
        decode(msgpack.packb(content))


@pytest.mark.parametrize("dtype", ["object", "U5", ">f4", "(2,", "f4,,f4", "", "M8[s]", "a5", "\0"])
def test_a_dtype_from_outside_is_looked_up_not_parsed(dtype):
    """numpy.dtype() of hostile text raises what it likes: SyntaxError, DeprecationWarning."""
    opened = msgpack.packb(
        [
            "stream_opened",
            {**EXAMPLES["stream_opened"], "info": {**DESCRIBED, "spec": {"x": {"shape": [], "dtype": dtype}}}},
        ]
    )

    with pytest.raises(ProtocolError, match="cannot be shared between processes"):
        decode(opened)


@given(st.binary(max_size=200))
@example(msgpack.packb(msgpack.Timestamp(0)))
@example(b"\xc1")
@example(b"\x91" * 5000)
def test_bytes_that_are_no_message_are_a_protocol_error_and_nothing_else(packed):
    with pytest.raises(ProtocolError):
        decode(packed)


@given(st.sampled_from(sorted(TAGS)), st.data())
@settings(max_examples=200)
def test_a_message_with_flipped_bytes_is_a_message_or_a_protocol_error(tag, data):
    packed = bytearray(encode(TAGS[tag](**EXAMPLES[tag])))
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))

    try:
        returned = decode(bytes(packed))
    except ProtocolError:
        return

    assert type(returned) in TAGS.values()


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.sampled_from(sorted(TAGS)), st.dictionaries(st.text(max_size=5), plain, max_size=3), st.data())
@settings(max_examples=200)
def test_wrong_values_in_the_right_fields_are_a_protocol_error(tag, more, data):
    names = [field.name for field in fields(TAGS[tag])]
    values = {name: data.draw(plain | st.just(EXAMPLES[tag][name])) for name in names}

    try:
        returned = decode(msgpack.packb([tag, {**more, **values}], default=lambda value: value.__dict__))
    except ProtocolError:
        return

    assert type(returned) is TAGS[tag]


def test_a_message_that_is_none_of_those_that_are_taken_here_is_refused():
    """A client that sends what only workers say need not even be understood."""
    assert decode(encode(CloseStream(3)), tags_of(FromClient)) == CloseStream(3)

    with pytest.raises(ProtocolError, match="no message of ours: KeyError"):
        decode(encode(RowsBegun(3)), tags_of(FromClient))


@pytest.mark.parametrize("layers", [MOST_LAYERS, MOST_LAYERS + 1, 500])
def test_a_declaration_is_nested_only_so_deep(layers):
    """Deeper ones could be unpacked, but neither walked nor packed again."""
    dataset = []
    for _ in range(layers - 2):
        dataset = [dataset]
    fields = {**EXAMPLES["open_stream"], "dataset": {"x": dataset}, "shard": {"rank": 0, "count": 1}}
    packed = msgpack.packb(["open_stream", fields])

    if layers > MOST_LAYERS:
        with pytest.raises(ProtocolError, match=f"more than {MOST_LAYERS} lists and tables inside each other"):
            decode(packed)
    else:
        assert decode(packed).dataset == {"x": dataset}


def test_of_what_cannot_be_understood_only_the_beginning_is_repeated():
    with pytest.raises(ProtocolError) as refused:
        decode(msgpack.packb(["x" * 10_000, {}]))

    assert len(str(refused.value)) < 300


def test_a_message_that_is_too_large_is_refused_by_its_sender():
    dataset = OpenStream(1, {"ids": "x" * MAX_NBYTES}, 8, WHOLE)

    with pytest.raises(ProtocolError, match=r"at most 16,777,216 may travel: pass long lists .* as NumPy arrays"):
        encode(dataset)


def test_a_message_that_is_too_large_is_refused_by_its_reader():
    packed = bytes(MAX_NBYTES + 1)

    with pytest.raises(ProtocolError, match="a message of 16,777,217 bytes, at most 16,777,216 are read"):
        decode(packed)


@pytest.mark.parametrize("stowaway", [{1, 2}, 2**70, "\udcff", object()])
def test_what_cannot_travel_is_refused_by_its_sender(stowaway):
    """A worker that met a UnicodeEncodeError here would die, and its batch with it."""
    status = Status({"value": stowaway})

    with pytest.raises(ProtocolError, match="message 'status' cannot be packed"):
        encode(status)


def test_an_error_crosses_with_its_class_message_and_notes():
    error = SampleError("sample 7 (cats/7.jpg): the JPEG is damaged")
    error.add_note("Traceback: ...")

    returned = error_of(decode(encode(failed(error))))

    assert (type(returned), str(returned), returned.__notes__) == (SampleError, str(error), ["Traceback: ..."])


def test_an_error_that_names_an_undecodable_file_crosses():
    """File names are bytes: Python shows those that are no UTF-8 as lone surrogates, which no message may hold."""
    error = SampleError("sample 7 (caf\udce9.jpg): empty")

    returned = error_of(decode(encode(failed(error))))

    assert str(returned) == "sample 7 (caf\\udce9.jpg): empty"


def test_an_error_that_shows_a_whole_array_crosses_cut_short():
    error = ValueError("begin" + "x" * 50_000_000 + "end")
    error.__notes__ = ["n" * 5_000_000] * 1000

    returned = error_of(decode(encode(failed(error))))

    assert len(str(returned)) <= MAX_TEXT
    assert str(returned).startswith("ValueError: begin")
    assert str(returned).endswith("end")


def test_a_message_cannot_be_changed():
    message = FillRows(1, 2, 3, [(0, 0, 0, 4)])

    with pytest.raises(AttributeError):
        message.task = 2


def test_a_message_is_validated_when_it_is_made():
    with pytest.raises(ValueError, match="at least 16 bytes"):
        Hello(1, "client", b"me", "0.1.0")


def test_stream_opened_keeps_the_order_of_its_fields():
    """Layouts are computed from it, on both sides."""
    spec = {name: FieldSpec((), "uint8") for name in ("z", "a", "m")}
    message = StreamOpened(**{**EXAMPLES["stream_opened"], "info": {**DESCRIBED, "spec": spec}})

    assert list(decode(encode(message)).info.spec) == ["z", "a", "m"]
