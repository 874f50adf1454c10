"""Clients that lie, babble, and vanish: told so, or let go; while another one reads on, as if it were alone."""

import itertools
import os

import msgpack
import numpy as np
import psutil
import pytest
import zmq

import loader_client
from loader_service import Dataset, __version__
from loader_service.protocol.address import Address
from loader_service.protocol.codec import MAX_NBYTES, encode
from loader_service.protocol.lifeline import Lifeline, PeerGone, greet
from loader_service.protocol.messages import (
    MOST_PREFETCH,
    PROTOCOL,
    BatchesReady,
    Failed,
    GetStatus,
    Hello,
    OpenStream,
    RequestBatches,
    ReturnSlots,
    ShareTable,
    Status,
    Stop,
    StreamFailed,
    Welcome,
    WorkerJoined,
)
from loader_service.protocol.shard import WHOLE
from tests.faults.data import hash_of, noisy
from tests.faults.raw import RawClient
from tests.waiting import wait_until

DATASET = noisy()


@pytest.fixture(scope="module")
def numbers():
    """Of the batches that the one who reads on has yet to read."""
    return itertools.count()


@pytest.fixture(autouse=True)
def bystander(standing, numbers):
    """Another client reads the same dataset, before and after; the daemon has then as many files open as before."""
    process = psutil.Process(standing.pid)
    with loader_client.connect(standing.address) as loader:
        stream = loader.stream(DATASET)
        expect(stream, numbers)
        files = process.num_fds()
        yield stream
        expect(stream, numbers)
        wait_until(lambda: process.num_fds() <= files, what=f"the end of more than {files} open files")


def expect(stream, numbers):
    """Read some batches more."""
    for n in itertools.islice(numbers, 10):
        assert hash_of(stream.take(n)) == hash_of(DATASET.compute(n))


@pytest.fixture
def client(standing):
    client = RawClient(standing.address)
    yield client
    client.vanish()


def streams_and_slots(client):
    client.say(GetStatus())
    status = client.hear(Status).status
    (dataset,) = [dataset for dataset in status["datasets"] if dataset["key"] == DATASET.key]
    return len(status["streams"]), dataset["slots"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"\xc1",
        b"\x91" * 5000,
        encode(GetStatus())[:-1],
        encode(GetStatus()) * 2,
        msgpack.packb(["x" * 10**6, {}]),
        msgpack.packb(["request_batches", {"stream": 0, "first": 0, "last": 1, "returned": [-1] * 10**6}]),
        msgpack.packb(["return_slots", {"stream": 0, "slots": list(range(10**6))}]),
        encode(WorkerJoined()),
        encode(Welcome("0", 1)),
        encode(BatchesReady(0, 0, [(0, 0, 1)])),
        encode(RequestBatches(7, 0, 1)),
        encode(RequestBatches(0, 5, 4)),
        encode(RequestBatches(0, 0, MOST_PREFETCH)),
        *[
            msgpack.packb(["request_batches", {"stream": 0, "first": n, "last": n}])
            for n in (-1, 2**63, 2**64 - 1, 0.5, "x", None)
        ],
    ],
    ids=lambda content: repr(content[:24]),
)
def test_what_cannot_be_meant_is_told_to_its_sender_in_few_words(client, content):
    client.say(content)

    told = client.hear(Failed)
    assert told.name == "ProtocolError"
    assert 0 < len(told.message) < 1000


def test_who_talks_nonsense_all_the_time_is_let_go(client):
    for _ in range(100):
        client.say(b"garbage")

    wait_until(client.is_let_go)


def test_a_batch_of_any_number_can_be_asked_for(client, bystander):
    last = 2**63 - 1
    client.open(DATASET)
    client.say(RequestBatches(0, last, last))

    assert [n for n, *_ in client.hear(BatchesReady).batches] == [last]
    assert hash_of(bystander.take(2**62 - 1)) == hash_of(DATASET.compute(2**62 - 1))
    for n in (-1, 2**62, 2**63):
        with pytest.raises(ValueError, match=r"batches count from 0 to 2\*\*62 - 1"):
            bystander.take(n)


def test_a_slot_that_is_returned_twice_is_an_error_and_stays_what_it_is(client):
    client.open(DATASET)
    client.say(RequestBatches(0, 1000, 1001))
    slots = []
    while len(slots) < 2:
        slots += [slot for _, slot, _ in client.hear(BatchesReady).batches]

    client.say(ReturnSlots(0, slots[:1]))
    client.say(ReturnSlots(0, slots[:1]))
    assert "are not lent to" in client.hear(Failed).message
    client.say(ReturnSlots(0, [slots[-1], slots[-1]]))
    assert "are not lent to" in client.hear(Failed).message


def test_who_asks_for_more_than_its_share_gets_nothing_of_it(client):
    opened = client.open(DATASET, stream=7, prefetch=4)
    client.say(RequestBatches(7, 2000, 2000 + opened.prefetch + opened.views))

    assert f"would have {opened.prefetch + opened.views + 1} of them" in client.hear(Failed).message
    client.say(GetStatus())
    (stream,) = [stream for stream in client.hear(Status).status["streams"] if stream["stream"] == 7]
    assert stream["waits_for"] == stream["holds"] == 0


def test_who_vanishes_between_request_and_lease_leaves_nothing(standing, client):
    for life in range(30):
        vanishing = RawClient(standing.address)
        vanishing.open(DATASET)
        vanishing.say(RequestBatches(0, 100 * life, 100 * life + 3))
        vanishing.vanish()

    wait_until(lambda: streams_and_slots(client)[0] == 1)
    wait_until(lambda: streams_and_slots(client)[1]["filling"] == 0)


def test_who_vanishes_before_its_stream_is_opened_leaves_nothing(standing, client):
    """The daemon is kept busy, so that it reads the request when the lifeline has ended already."""
    for _ in range(30):
        vanishing = RawClient(standing.address)
        vanishing.hand_tables(DATASET)
        for _ in range(100):
            vanishing.say(GetStatus())
        vanishing.say(OpenStream(0, DATASET.to_dict(), 4, WHOLE))
        vanishing.vanish()

    wait_until(lambda: streams_and_slots(client)[0] == 1)


def test_who_vanishes_at_the_door_is_nobody(standing):
    hello = Hello(PROTOCOL, "client", bytes(16), __version__)
    for _ in range(300):
        lifeline = Lifeline.connect(Address.parse(standing.address).lifeline, patience=5)
        lifeline.send(hello)
        lifeline.close()


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"garbage",
        msgpack.packb(["x" * 65_000, {}]),
        msgpack.packb(["hello", {"protocol": 0, "role": "client", "identity": bytes(16), "version": "9" * 65_000}]),
        msgpack.packb(["hello", {"protocol": 2**64 - 1, "role": "client", "identity": bytes(16), "version": "9"}]),
        bytes(2**17),
        encode(GetStatus()),
    ],
    ids=lambda packet: repr(packet[:24]),
)
def test_what_is_no_greeting_is_refused_at_the_door(standing, packet):
    lifeline = Lifeline.connect(Address.parse(standing.address).lifeline, patience=10)
    lifeline._socket.send(packet)

    answer = lifeline.recv(wait=True) if packet else (Failed("", "an empty packet is the end of file", []), None)
    lifeline.close()
    assert isinstance(answer[0], Failed)
    assert len(answer[0].message) < 1000


@pytest.mark.parametrize("role", ["client", "worker"])
def test_nobody_comes_in_as_somebody_else(standing, client, role):
    lifeline = Lifeline.connect(Address.parse(standing.address).lifeline, patience=10)

    answer = greet(lifeline, Hello(PROTOCOL, role, client.link.identity, __version__))
    lifeline.close()

    assert isinstance(answer, Failed)
    assert "has joined already, or is no worker of this daemon" in answer.message
    assert streams_and_slots(client)[0] == 1


def nested(layers):
    inner = {}
    for _ in range(layers):
        inner = {"x": [inner]}
    return inner


@pytest.mark.parametrize(
    ("dataset", "told"),
    [
        ({}, "source"),
        ({"source": {"kind": "arrays", "fields": {"x": 1}}}, "source"),
        (DATASET.to_dict() | {"transforms": [{"kind": "map", "function": {"name": "no_such:f"}}]}, "no_such"),
        ({"pad": "x" * (MAX_NBYTES - 100)}, "may be declared in 16,711,680 bytes"),
        ("x" * 1000, "no dataset named"),
        ({"a": {"table": "0a" * 16, "dtype": "int64"}}, "was named before it was handed over"),
    ],
    ids=["empty", "wrong", "no such module", "too large", "a long name", "a table that nobody has"],
)
def test_a_dataset_that_is_none_is_refused_in_words(client, dataset, told):
    client.hand_tables(DATASET)
    client.say(OpenStream(0, dataset, 4, WHOLE))

    assert told in client.hear(StreamFailed).error.message


@pytest.mark.parametrize("dataset", [nested(100), nested(450), "x" * 10**6], ids=["deep", "very deep", "a longer name"])
def test_a_declaration_that_could_not_travel_on_is_refused_at_the_socket(client, dataset):
    client.say(msgpack.packb(["open_stream", {"stream": 0, "dataset": dataset, "prefetch": 4, "shard": [0, 1]}]))

    assert client.hear(Failed).name == "ProtocolError"


def test_a_stream_cannot_be_opened_twice(client):
    client.open(DATASET)
    client.say(OpenStream(0, DATASET.to_dict(), 4, WHOLE))

    assert "stream 0 is open already" in client.hear(StreamFailed).error.message


def test_tables_that_nobody_asks_for_are_not_kept(standing, client):
    """Until it says what they are for, a client may hand over so many; when it dies, they are gone."""
    other = RawClient(standing.address)
    with open("/dev/null") as file:
        for number in range(900):
            other.link.lifeline.send(ShareTable(f"{number:032x}"), file.fileno())
        wait_until(lambda: psutil.Process(standing.pid).num_fds() > 900)
        other.vanish()
        wait_until(lambda: psutil.Process(standing.pid).num_fds() < 900)
        with pytest.raises(PeerGone):
            for number in range(10**6):
                client.link.lifeline.send(ShareTable(f"{number:032x}"), file.fileno())


def test_a_table_that_is_no_memory_fails_the_dataset_that_names_it(client):
    dataset = Dataset.from_arrays(x=np.arange(100.0)).batch(10)
    (table,) = dataset.tables
    reader, writer = os.pipe()
    client.link.lifeline.send(ShareTable(table), reader)
    os.close(reader)
    os.close(writer)
    client.say(OpenStream(0, dataset.to_dict(), 4, WHOLE))

    assert "holds fewer than 800 bytes" in client.hear(StreamFailed).error.message


@pytest.mark.parametrize("endpoint", ["clients", "workers"])
def test_who_comes_in_by_the_window_is_not_heard(standing, endpoint):
    """ZeroMQ lets everybody in; without a lifeline he is nobody, and cannot stop a daemon."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as sock:
        sock.linger = 1000
        sock.connect(getattr(Address.parse(standing.address), endpoint))
        for message in (Stop(), WorkerJoined(), GetStatus()):
            sock.send(encode(message))
        sock.send(bytes(MAX_NBYTES + 1))
        assert not sock.poll(50)
