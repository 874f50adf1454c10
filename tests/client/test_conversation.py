"""Client and daemon, the rules of both: whatever is under way between them, nothing is lost, and nothing overwritten.

The rules are the real ones: Window and Loans of the client, the Shelf of the daemon. Between them lie two queues, for
each stream one each way, and slots of real memory, which is scribbled over as soon as it is to be filled.
"""

from collections import deque

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from loader_client.batch import SlotReader
from loader_client.connection import Arrived, Window
from loader_client.loans import Loans
from loader_service.daemon.streams import Fail, Fill, Lend, Shelf
from loader_service.protocol.arena import slot_arrays
from loader_service.protocol.codec import failed
from loader_service.protocol.errors import SampleError
from loader_service.protocol.layout import Layout
from loader_service.protocol.messages import BatchesReady, BatchFailed, RequestBatches, ResetStream, ReturnSlots
from loader_service.protocol.spec import FieldSpec

OOPS = failed(SampleError("oops"))
SPEC = {"x": FieldSpec((), "int64")}
LAYOUT = Layout.of(SPEC, 1)
SLOTS = 5
SCRIBBLE = -1


class Reader:
    """A stream: what its client knows, what is under way, and what a training loop holds."""

    def __init__(self, share, arena):
        self.window = Window(share.prefetch)
        self.loans = Loans(SlotReader(arena, LAYOUT, SPEC), share.views, hold_back=1, nudge=lambda: None)
        self.to_daemon, self.to_client = deque(), deque()
        self.round = 0  # that the daemon knows of
        self.expected, self.cycle = 0, None
        self.alive = []  # (n, arrays)
        self.taken = 0

    def ask(self):
        ranges, slots = self.window.ask(), self.loans.pop_returned()
        for first, last in ranges:
            self.to_daemon.append(RequestBatches(0, first, last, slots))
            slots = []
        if slots:
            self.to_daemon.append(ReturnSlots(0, slots))

    def jump(self, n, cycle):
        self.window.reset(n, cycle)
        self.expected, self.cycle = n, cycle
        self.loans.pop_returned()
        self.to_daemon.append(ResetStream(0, self.window.round, self.loans.held))

    def read(self):
        match self.to_client.popleft():
            case BatchesReady(round=round_, batches=[(n, slot, rows)]):
                if not self.window.arrived(round_, n, slot, rows) and round_ == self.window.round:
                    self.loans.decline(slot)
            case BatchFailed(round=round_, n=n, error=error):
                self.window.failed(round_, n, error)

    def take(self):
        taken = self.window.take()
        if not isinstance(taken, Arrived):
            return
        arrays = self.loans.copy(taken) if self.loans.is_full else self.loans.view(taken)
        assert arrays["x"].tolist() == [self.expected]
        self.alive.append((self.expected, arrays))
        self.taken += 1
        last = self.cycle is not None and self.expected == self.cycle[1]
        self.expected = self.cycle[0] if last else self.expected + 1

    def take_several(self, most):
        several = self.window.take_several(most)
        if not isinstance(several, list):
            return
        for (n,) in self.loans.stack(several)["x"].tolist():
            assert n == self.expected
            last = self.cycle is not None and self.expected == self.cycle[1]
            self.expected = self.cycle[0] if last else self.expected + 1
            self.taken += 1


class AnyConversation(RuleBasedStateMachine):
    """Any interleaving of what streams, daemon and workers do, and any delay of what they say."""

    def __init__(self):
        super().__init__()
        self.arena = np.zeros(SLOTS * LAYOUT.slot_nbytes, np.uint8)
        self.shelf = Shelf(SLOTS)
        self.readers = {}
        self.filling = {}  # slot -> n
        self.names = iter(range(10**6))

    def write(self, slot, value):
        slot_arrays(self.arena, LAYOUT, slot)["x"][:] = value

    def obey(self, told):
        for instruction in told:
            match instruction:
                case Fill(slot, n):
                    self.filling[slot] = n
                    self.write(slot, SCRIBBLE)
                case Lend(stream, slot, n):
                    reader = self.readers[stream]
                    reader.to_client.append(BatchesReady(0, reader.round, [(n, slot, 1)]))
                case Fail(stream, n, error):
                    reader = self.readers[stream]
                    reader.to_client.append(BatchFailed(0, reader.round, n, error))

    def hear(self, stream):
        reader = self.readers[stream]
        match reader.to_daemon.popleft():
            case RequestBatches(first=first, last=last, returned=slots):
                if slots:
                    self.obey(self.shelf.returned(stream, slots))
                self.obey(self.shelf.request(stream, range(first, last + 1)))
            case ReturnSlots(slots=slots):
                self.obey(self.shelf.returned(stream, slots))
            case ResetStream(round=round_, keeps=keeps):
                told = self.shelf.reset(stream, keeps)
                reader.round = round_
                self.obey(told)

    def make(self, slot, good=True):
        n = self.filling.pop(slot)
        if good:
            self.write(slot, n)
            self.obey(self.shelf.filled(slot))
        else:
            self.obey(self.shelf.failed(slot, OOPS))

    def some(self, data, condition=lambda reader: True):
        return data.draw(st.sampled_from(sorted(stream for stream, each in self.readers.items() if condition(each))))

    def any_reader(self, condition):
        return any(map(condition, self.readers.values()))

    @precondition(lambda self: self.shelf.unspoken)
    @rule(prefetch=st.integers(1, 4))
    def connect(self, prefetch):
        stream = (next(self.names).to_bytes(16, "big"), 0)
        share = self.shelf.offer(prefetch)
        self.shelf.open(stream, share)
        self.readers[stream] = Reader(share, self.arena)

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def client_asks(self, data):
        self.readers[self.some(data)].ask()

    @precondition(lambda self: self.readers)
    @rule(data=st.data(), n=st.integers(0, 6), cycle=st.none() | st.just((0, 2)) | st.just((0, 6)))
    def client_jumps(self, data, n, cycle):
        self.readers[self.some(data)].jump(n if cycle is None else n % (cycle[1] + 1), cycle)

    @precondition(lambda self: self.any_reader(lambda reader: reader.to_client))
    @rule(data=st.data())
    def client_reads(self, data):
        self.readers[self.some(data, lambda reader: reader.to_client)].read()

    @precondition(lambda self: self.any_reader(lambda reader: reader.window.ready))
    @rule(data=st.data())
    def client_takes(self, data):
        self.readers[self.some(data, lambda reader: reader.window.ready)].take()

    @precondition(lambda self: self.any_reader(lambda reader: reader.window.ready))
    @rule(data=st.data(), most=st.integers(1, 4))
    def client_takes_several(self, data, most):
        self.readers[self.some(data, lambda reader: reader.window.ready)].take_several(most)

    @precondition(lambda self: self.any_reader(lambda reader: reader.alive))
    @rule(data=st.data(), which=st.integers(0, 100))
    def an_array_dies(self, data, which):
        alive = self.readers[self.some(data, lambda reader: reader.alive)].alive
        del alive[which % len(alive)]

    @precondition(lambda self: self.any_reader(lambda reader: reader.to_daemon))
    @rule(data=st.data())
    def daemon_reads(self, data):
        self.hear(self.some(data, lambda reader: reader.to_daemon))

    @precondition(lambda self: self.filling)
    @rule(data=st.data(), good=st.booleans())
    def workers_are_done(self, data, good):
        self.make(data.draw(st.sampled_from(sorted(self.filling))), good)

    @precondition(lambda self: self.readers)
    @rule(good=st.booleans())
    def all_that_is_under_way_arrives(self, good=True):
        for stream, reader in self.readers.items():
            reader.ask()
            while reader.to_daemon:
                self.hear(stream)
        for slot in sorted(self.filling):
            self.make(slot, good)
        for reader in self.readers.values():
            while reader.to_client:
                reader.read()

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def client_dies(self, data):
        """What it had said is lost, or read before."""
        stream = self.some(data)
        del self.readers[stream]
        self.obey(self.shelf.close(stream))

    @invariant()
    def what_is_held_stays_as_it_is(self):
        for reader in self.readers.values():
            assert [arrays["x"].tolist() for _, arrays in reader.alive] == [[n] for n, _ in reader.alive]

    def teardown(self):
        """In the end everybody who goes on gets the next batches; and all slots come back."""
        goal = {stream: reader.taken + 5 for stream, reader in self.readers.items()}
        for _ in range(20):
            self.all_that_is_under_way_arrives()
            for reader in self.readers.values():
                reader.alive.clear()
                while reader.window.ready:
                    reader.take()
        assert all(reader.taken >= goal[stream] for stream, reader in self.readers.items()), "somebody waits for ever"
        for stream in list(self.readers):
            self.obey(self.shelf.close(stream))
        for slot in sorted(self.filling):
            self.make(slot)
        counts = self.shelf.counts()
        assert counts["free"] + counts["unread"] == SLOTS


TestAnyConversation = AnyConversation.TestCase
TestAnyConversation.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
