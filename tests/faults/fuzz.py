"""Messages that nobody should send, by the thousand, at each socket of a daemon; a client beside must not notice.

They are of all kinds: right ones at the wrong time, and again; cut, flipped, nested, oversized; numbers at the edges of
what fits; garbage. They come from clients that were let in, from strangers whom ZeroMQ lets in all the same, and from
those who do not even speak ZeroMQ. What would stop or scale the daemon is left out: that is anybody's right.

    python -m tests.faults.fuzz --messages 1000000 --seed 7 --json fuzz.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import socket
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import psutil
import zmq
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from loader_service import Dataset, __version__
from loader_service.protocol.address import Address
from loader_service.protocol.codec import MAX_NBYTES, decode, encode
from loader_service.protocol.errors import LoaderError, ProtocolError
from loader_service.protocol.launch import end, launch
from loader_service.protocol.lifeline import Lifeline, PeerGone
from loader_service.protocol.messages import (
    PROTOCOL,
    CloseStream,
    GetStatus,
    Hello,
    OpenStream,
    RequestBatches,
    ResetStream,
    ReturnSlots,
    RowsBegun,
    RowsFilled,
    Scale,
    ShareTable,
    Stop,
    WorkerJoined,
)
from loader_service.protocol.shard import Shard
from tests.faults.data import Expected
from tests.faults.raw import RawClient
from tests.faults.trainer import Trainer
from tests.faults.watch import Violation, status_of

EDGES = [-(2**63), -1, 0, 1, 2**31 - 1, 2**31, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
STREAMS = 4  # that a client speaks of; some of them are open
MEMORY = 512 * 2**20  # bytes that the daemon may grow by, at any moment
STALL = 30.0  # seconds in which the client beside gets a batch
LOOK = 2000  # messages between looks at the daemon


class Messages:
    """An endless supply of them, the same for the same seed."""

    def __init__(self, seed: int, folder: Path) -> None:
        self._draw = random.Random(seed)
        np.save(folder / "x.npy", np.arange(640, dtype=np.float32).reshape(64, 10))
        numbers = Dataset.from_arrays(x=folder / "x.npy")
        self._datasets = [numbers.batch(8).to_dict(), numbers.shuffle(seed=1).batch(16).to_dict()]
        self._sent: deque[bytes] = deque(maxlen=50)
        kinds = {
            self._right: 30,
            self._again: 15,
            self._cut: 10,
            self._flipped: 20,
            self._glued: 5,
            self._garbage: 8,
            self._nonsense: 8,
            self._edge: 10,
            self._nested: 1,
            self._large: 1,
        }
        self._kinds, self._weights = list(kinds), list(kinds.values())
        self.count: Counter[str] = Counter()

    def next(self) -> bytes:
        """Return the next one."""
        while True:
            (kind,) = self._draw.choices(self._kinds, self._weights)
            message = kind()
            if not is_a_command(message):
                self.count[kind.__name__.strip("_")] += 1
                return message

    def number(self) -> int:
        """Return a number as it stands in messages, mostly."""
        return self._draw.choice([*range(20), *range(20), self._draw.choice(EDGES)])

    def _right(self) -> bytes:
        stream, draw = self._draw.randrange(STREAMS), self._draw
        first = draw.randrange(100)
        slots = [draw.randrange(12) for _ in range(draw.randrange(4))]
        message = draw.choice(
            [
                lambda: OpenStream(stream, draw.choice(self._datasets), 4, Shard(0, draw.choice([1, 1, 2]))),
                lambda: RequestBatches(stream, first, first + draw.randrange(4), slots),
                lambda: RequestBatches(stream, first, first + draw.randrange(4)),
                lambda: ReturnSlots(stream, slots),
                lambda: ResetStream(stream, draw.randrange(5), slots[:1]),
                lambda: CloseStream(stream),
                lambda: GetStatus(),
                lambda: WorkerJoined(),
                lambda: RowsFilled(draw.randrange(1000), 0.001),
            ]
        )()
        packed = encode(message)
        self._sent.append(packed)
        return packed

    def _again(self) -> bytes:
        return self._draw.choice(self._sent) if self._sent else self._right()

    def _cut(self) -> bytes:
        packed = self._right()
        return packed[: self._draw.randrange(len(packed))]

    def _flipped(self) -> bytes:
        packed = bytearray(self._right())
        for _ in range(self._draw.randrange(1, 5)):
            packed[self._draw.randrange(len(packed))] ^= 1 << self._draw.randrange(8)
        return bytes(packed)

    def _glued(self) -> bytes:
        return self._right() + self._right()

    def _garbage(self) -> bytes:
        return self._draw.randbytes(self._draw.choice([0, 1, 5, 40, 1000]))

    def _nonsense(self) -> bytes:
        """What msgpack can read, and nobody means."""
        draw = self._draw

        def value(depth: int) -> Any:
            kind = draw.randrange(8 if depth else 6)
            if kind < 6:
                return [None, True, draw.choice(EDGES[1:]), draw.random(), "x" * draw.randrange(9), b"\0"][kind]
            inner = [value(depth - 1) for _ in range(draw.randrange(4))]
            return inner if kind == 6 else dict(zip("abcd", inner, strict=False))

        return bytes(msgpack.packb(draw.choice([value(3), ["open_stream", value(3)], ["close_stream", value(2)]])))

    def _edge(self) -> bytes:
        """Right, but for one number."""
        tag, fields = msgpack.unpackb(self._right())
        numbers = [name for name, value in fields.items() if isinstance(value, int)]
        lists = [name for name, value in fields.items() if isinstance(value, list)]
        if numbers and (not lists or self._draw.random() < 0.7):
            fields[self._draw.choice(numbers)] = self._draw.choice(EDGES)
        elif lists:
            fields[self._draw.choice(lists)] = [self._draw.choice(EDGES)] * self._draw.choice([1, 2, 1000])
        return bytes(msgpack.packb([tag, fields]))

    def _nested(self) -> bytes:
        inner: Any = {}
        for _ in range(self._draw.randrange(400)):
            inner = {"x": [inner]} if self._draw.random() < 0.5 else {"x": inner}
        dataset = {**self._draw.choice(self._datasets), "transforms": inner}
        with contextlib.suppress(ValueError):
            fields = {"stream": 0, "dataset": dataset, "prefetch": 4, "shard": {"rank": 0, "count": 1}}
            return bytes(msgpack.packb(["open_stream", fields]))
        return b"\x91" * 2000

    def _large(self) -> bytes:
        nbytes = self._draw.choice([10**4, 10**5, 10**6, MAX_NBYTES - 100, MAX_NBYTES + 1])
        if nbytes > 10**5 and self._draw.random() < 0.9:  # some of them are enough
            nbytes = 10**4
        what = self._draw.randrange(3)
        if what == 0:
            return bytes(nbytes)
        if what == 1:
            return bytes(msgpack.packb(["return_slots", {"stream": 0, "slots": [0] * nbytes}]))
        return bytes(msgpack.packb(["open_stream", {"stream": 0, "dataset": "x" * nbytes, "prefetch": 1}]))


def is_a_command(packed: bytes) -> bool:
    """Whether it would have the daemon stop, or start workers."""
    try:
        return isinstance(decode(packed), Stop | Scale)
    except ProtocolError:
        return False


class Insiders:
    """Clients that were let in: a few at a time; they are let go, hang up, vanish, and come again."""

    def __init__(self, address: str, draw: random.Random, messages: Messages) -> None:
        self._address, self._draw, self._messages = address, draw, messages
        self._clients: list[RawClient] = []
        self.connections = 0

    def say(self, count: int) -> None:
        """Send some messages."""
        if len(self._clients) < 3:
            self._clients.append(RawClient(self._address))
            self.connections += 1
        client = self._draw.choice(self._clients)
        for _ in range(count):
            client.say(self._messages.next())
        while client.link.socket.poll(0):
            client.link.socket.recv()
        if self._draw.random() < 0.05:
            self._hand_over(client)
        if client.is_let_go() or self._draw.random() < 0.05:
            self._clients.remove(client)
            client.vanish()

    def _hand_over(self, client: RawClient) -> None:
        """Garbage over the lifeline, after it was opened; or a table that is none."""
        with contextlib.suppress(PeerGone), open(os.devnull) as file:
            client.link.lifeline.send(ShareTable("0a" * 16), file.fileno())
            if self._draw.random() < 0.5:
                client.link.lifeline.send(self._draw.choice([RowsBegun(1), GetStatus()]))

    def close(self) -> None:
        """Hang up."""
        for client in self._clients:
            client.vanish()


class Strangers:
    """Those whom only ZeroMQ has let in: at both sockets, under names of their own."""

    def __init__(self, address: Address, draw: random.Random, messages: Messages) -> None:
        self._draw, self._messages = draw, messages
        self._context: zmq.Context[Any] = zmq.Context()
        self._sockets = []
        for endpoint in (address.clients, address.workers):
            sock = self._context.socket(zmq.DEALER)
            sock.connect(endpoint)
            self._sockets.append(sock)

    def say(self, count: int) -> None:
        """Send some messages, each of one part or of several."""
        sock = self._draw.choice(self._sockets)
        for _ in range(count):
            sock.send_multipart([self._messages.next() for _ in range(self._draw.choice([1, 1, 1, 2, 5]))])

    def close(self) -> None:
        """Hang up."""
        self._context.destroy(linger=0)


def babble(address: Address, draw: random.Random, messages: Messages) -> None:
    """Say something at a ZeroMQ socket that is no ZeroMQ."""
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
    said = draw.choice([draw.randbytes(200), greeting[: draw.randrange(70)], greeting + messages.next()[:1000]])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(str(draw.choice([address.clients, address.workers])).removeprefix("ipc://"))
        with contextlib.suppress(OSError):
            sock.sendall(said)


def knock(address: Address, draw: random.Random, messages: Messages) -> None:
    """Say something at the door that is no greeting; or a greeting, and vanish."""
    hello = encode(Hello(PROTOCOL, draw.choice(["client", "worker"]), draw.randbytes(16), __version__))
    flipped = bytearray(hello)
    flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
    lifeline = Lifeline.connect(address.lifeline, patience=30)
    with contextlib.suppress(OSError):
        for packet in draw.choice([[hello], [hello, hello], [bytes(flipped)], [messages.next()[: 2**16]], []]):
            lifeline._socket.send(packet)
    lifeline.close()


def fuzz(
    address: str, daemon: psutil.Process, count: int, seed: int, folder: Path, told: Callable[[int], None]
) -> dict[str, Any]:
    """Send so many messages; return what became of it.

    Raises:
        Violation: If the daemon dies, grows, or keeps the client beside waiting.
    """
    draw, messages = random.Random(seed), Messages(seed, folder)
    beside = Trainer(address, folder / "ledger", "--dataset", "noise", "--batches", "60", "--pace", "0.005")
    expected, steps, since = Expected("noise", 60), 0, time.monotonic()
    insiders = Insiders(address, draw, messages)
    strangers = Strangers(Address.parse(address), draw, messages)
    before, most, began = daemon.memory_info().rss, 0, time.monotonic()
    sent, looked = 0, 0
    try:
        while sent < count or steps < 10:
            what = draw.random()
            if what < 0.75:
                insiders.say(some := draw.randrange(1, 40))
            elif what < 0.9:
                strangers.say(some := draw.randrange(1, 40))
            else:
                (babble if what < 0.95 else knock)(Address.parse(address), draw, messages)
                some = 1
            sent += some
            told(some)
            if sent >= looked + LOOK or sent >= count:
                looked = sent
                if not daemon.is_running() or daemon.status() == psutil.STATUS_ZOMBIE:
                    raise Violation(f"the daemon is dead after {sent:,} messages")
                most = max(most, daemon.memory_info().rss - before)
                if most > MEMORY:
                    raise Violation(f"the daemon has grown by {most / 2**20:,.0f} MiB after {sent:,} messages")
                if new := expected.check(beside.new_steps(), "the client beside"):
                    steps, since = steps + new, time.monotonic()
                if time.monotonic() - since > STALL:
                    raise Violation(f"the client beside has had no batch for {STALL:.0f} s, after {sent:,} messages")
        beside.end()
        steps += expected.check(beside.new_steps(), "the client beside")
    except (LoaderError, OSError) as error:
        raise Violation(f"after {sent:,} messages, the daemon lets nobody in: {error!r}") from error
    finally:
        took = time.monotonic() - began
        insiders.close()
        strangers.close()
        if beside.process.poll() is None:
            beside.kill()
    return {
        "seed": seed,
        "messages": sent,
        "kinds": dict(messages.count),
        "connections": insiders.connections,
        "seconds": round(took, 1),
        "batches_beside": steps,
        "most_growth_mib": round(most / 2**20, 1),
        "growth_at_the_end_mib": round((daemon.memory_info().rss - before) / 2**20, 1),
    }


def main() -> int:
    """Start a daemon, do all that to it, and tell what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--json", type=Path, help="write the result there")
    options = parser.parse_args()
    console = Console(stderr=True)
    console.print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="ls-", dir="/tmp") as name:
        folder = Path(name)
        address = f"ipc://{folder}/daemon"
        log = folder / "log"
        process, _ = launch(Address.parse(address), ["--workers", "2", "--memory", "64 MiB"], log=log)
        try:
            with Progress(console=console) as progress:
                bar = progress.add_task("messages", total=options.messages)
                result = fuzz(
                    address,
                    psutil.Process(process.pid),
                    options.messages,
                    options.seed,
                    folder,
                    lambda some: progress.advance(bar, some),
                )
            result["streams_left"] = len(status_of(address)["streams"])
        except Violation as violation:
            console.print(f"[bold red]violated[/], with seed {options.seed}: {violation}")
            console.print(log.read_text()[-3000:], markup=False)
            return 1
        finally:
            end(process)
    table = Table("", "", title="fuzzed", show_header=False)
    for key, value in result.items():
        table.add_row(key.replace("_", " "), f"{value:,}" if isinstance(value, int | float) else str(value))
    Console().print(table)
    if options.json is not None:
        options.json.write_text(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
