import os
import socket
import struct

import pytest

from loader_service.protocol.codec import encode
from loader_service.protocol.errors import DaemonLost, ProtocolError
from loader_service.protocol.lifeline import MAX_PACKET, Lifeline, PeerGone, greet
from loader_service.protocol.messages import PROTOCOL, CloseStream, Failed, Hello, ShareTable, Welcome

pytestmark = pytest.mark.usefixtures("nothing_held")
HELLO = Hello(PROTOCOL, "client", bytes(16), "0.1.0")
TABLE = ShareTable("0a" * 16)


@pytest.fixture
def pair():
    """Both ends as they are used, and the socket of the first one, to send what a Lifeline would not."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ends = Lifeline(near), Lifeline(far)
    yield (*ends, near)
    for end in ends:
        end.close()


@pytest.fixture
def pipe():
    """A pipe, whose read end sees the end of file when no copy of its write end is open any more."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def send_raw(sock, content, *fds):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
    sock.sendmsg([content], rights)


def test_a_message_travels(pair):
    near, far, _ = pair

    near.send(HELLO)

    assert far.recv(wait=True) == (HELLO, None)


def test_messages_stay_apart_and_in_order(pair):
    near, far, _ = pair

    for stream in range(5):
        near.send(CloseStream(stream))

    assert [far.recv(wait=True)[0].stream for _ in range(5)] == list(range(5))


def test_a_descriptor_travels_with_its_message(pair, pipe):
    near, far, _ = pair
    reader, writer = pipe

    near.send(TABLE, writer)
    os.close(writer)
    message, received = far.recv(wait=True)

    assert message == TABLE
    os.write(received, b"through the copy")
    os.close(received)
    assert os.read(reader, 100) == b"through the copy"
    assert os.read(reader, 100) == b""


def test_a_received_descriptor_does_not_leak_into_child_processes(pair, pipe):
    near, far, _ = pair
    _, writer = pipe

    near.send(TABLE, writer)
    os.close(writer)
    _, received = far.recv(wait=True)

    assert not os.get_inheritable(received)
    os.close(received)


def test_nothing_to_read_is_none_and_not_the_end(pair):
    _, far, _ = pair

    assert far.recv(wait=False) is None


@pytest.mark.parametrize("wait", [True, False])
def test_the_end_of_file_is_the_peers_end(pair, wait):
    near, far, _ = pair
    near.close()

    with pytest.raises(PeerGone, match="end of file"):
        far.recv(wait=wait)


def test_what_was_sent_before_the_end_is_still_read(pair):
    near, far, _ = pair
    near.send(HELLO)
    near.close()

    assert far.recv(wait=True) == (HELLO, None)


def test_sending_to_a_peer_that_is_gone_says_so(pair):
    near, far, _ = pair
    far.close()

    with pytest.raises(PeerGone):
        near.send(HELLO)


@pytest.mark.parametrize("content", [b"garbage", b"\xc1", encode(HELLO)[:-1], b""])
def test_a_packet_that_is_no_message_is_a_protocol_error_and_its_descriptor_is_closed(pair, pipe, content):
    """A peer that sends nonsense must not fill up our table of descriptors."""
    _, far, sock = pair
    reader, writer = pipe
    send_raw(sock, content, writer)
    os.close(writer)

    with pytest.raises(ProtocolError):
        far.recv(wait=True)

    assert os.read(reader, 100) == b""


def test_a_packet_with_several_descriptors_is_refused_and_all_are_closed(pair, pipe):
    _, far, sock = pair
    reader, writer = pipe
    send_raw(sock, encode(TABLE), writer, writer, writer)
    os.close(writer)

    with pytest.raises(ProtocolError, match="or of several descriptors"):
        far.recv(wait=True)

    assert os.read(reader, 100) == b""


def test_a_packet_that_is_too_long_is_refused_by_its_reader(pair):
    _, far, sock = pair
    send_raw(sock, bytes(MAX_PACKET + 1))

    with pytest.raises(ProtocolError, match="a packet of more than 65536 bytes"):
        far.recv(wait=True)


def test_a_message_too_long_for_a_packet_is_refused_by_its_sender(pair):
    near, far, _ = pair

    with pytest.raises(ProtocolError, match="a packet at most 65,536"):
        near.send(Failed("DaemonLost", "x" * MAX_PACKET, []))

    assert far.recv(wait=False) is None


def test_the_next_message_is_read_after_nonsense(pair):
    near, far, sock = pair
    send_raw(sock, b"garbage")
    near.send(HELLO)
    with pytest.raises(ProtocolError):
        far.recv(wait=True)

    assert far.recv(wait=True) == (HELLO, None)


def test_the_kernel_says_who_the_peer_is(pair):
    near, _, _ = pair

    assert near.peer() == (os.getpid(), os.getuid())


def test_the_daemon_answers_a_greeting(pair):
    near, far, _ = pair
    far.send(Welcome("0.1.0", 17))

    answer = greet(near, HELLO)

    assert answer == Welcome("0.1.0", 17)
    assert far.recv(wait=True) == (HELLO, None)


def test_a_daemon_that_hangs_up_at_the_greeting_is_lost(pair):
    near, far, _ = pair
    far.close()

    with pytest.raises(DaemonLost, match="accepted the connection and hung up"):
        greet(near, HELLO)


@pytest.fixture
def listener(address):
    """A daemon's listening socket that nobody accepts from, and its path."""
    path = address.removeprefix("ipc://")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(path)
        sock.listen(0)
        yield sock, path


def test_a_daemon_that_is_stopped_does_not_hold_its_callers_for_ever(listener):
    """SIGSTOP, or a debugger: the connection is made by the kernel, and nobody answers."""
    _, path = listener
    lifeline = Lifeline.connect(path, patience=0.05)

    with pytest.raises(DaemonLost, match="did not answer: is it stopped, or under a debugger"):
        greet(lifeline, HELLO)

    lifeline.close()


def test_a_daemon_that_does_not_accept_is_waited_for_no_longer_than_said(listener):
    _, path = listener
    queued = Lifeline.connect(path, patience=0.05)

    with pytest.raises(BlockingIOError):
        Lifeline.connect(path, patience=0.05)

    queued.close()


def test_nobody_listens_where_a_daemon_was_killed(listener):
    sock, path = listener
    sock.close()

    with pytest.raises(ConnectionRefusedError):
        Lifeline.connect(path, patience=1)


def test_nobody_listens_where_no_daemon_ever_was(address):
    with pytest.raises(FileNotFoundError):
        Lifeline.connect(address.removeprefix("ipc://") + "/lifeline", patience=1)
