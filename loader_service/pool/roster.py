"""How many workers there should be, and which ones there are. Rules only: no process, no clock.

    STARTING -joined-> READY -retired-> RETIRING -ended-> gone
                         `---killed---> KILLED ----ended-> gone

A worker that ends without being asked to is replaced at once; one that is killed before it is dead, since a process
that waits for a disk may outlive its SIGKILL for as long; one that ends before it has even joined, after a
pause that doubles each time: something in its start is broken, and a loop of forks would not mend it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

FIRST_PAUSE = 0.2  # seconds
LONGEST_PAUSE = 10.0  # seconds


class WorkerState(Enum):
    """Where in its life a worker is. See the drawing above."""

    STARTING, READY, RETIRING, KILLED = "starting", "ready", "retiring", "killed"


@dataclass(eq=False)
class Member:
    """One worker, from the moment it is asked for until it is dead."""

    number: int
    state: WorkerState = WorkerState.STARTING
    pid: int | None = None


class Roster:
    """The pool's members."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.members: dict[int, Member] = {}
        self.lost = 0  # workers that ended without being asked to
        self._numbers = 0
        self._stillborn = 0  # workers in a row that ended before they joined
        self._not_before = 0.0  # when the next one may be started

    def start(self, now: float) -> list[int]:
        """Return the numbers of workers to start now; they count as members from here on."""
        if now < self._not_before:
            return []
        started = []
        for _ in range(self.wanted - len(self._staying())):
            member = Member(self._numbers)
            self._numbers += 1
            self.members[member.number] = member
            started.append(member.number)
        return started

    def retire(self) -> list[int]:
        """Return the workers to send away: the youngest ones beyond the wanted number."""
        staying = self._staying()
        spare = staying[self.wanted :]
        for member in spare:
            member.state = WorkerState.RETIRING
        return [member.number for member in spare]

    def killed(self, worker: int) -> None:
        """It took too long, or too much: it is as good as dead."""
        self.members[worker].state = WorkerState.KILLED

    def sent_away(self, worker: int) -> None:
        """It is to end when its tasks are done; another one takes its place."""
        self.members[worker].state = WorkerState.RETIRING

    def started(self, worker: int, pid: int) -> None:
        """The process runs."""
        self.members[worker].pid = pid

    def joined(self, worker: int) -> bool:
        """It accepts tasks. Return whether it is still wanted."""
        self._stillborn = 0
        member = self.members[worker]
        if member.state is WorkerState.STARTING:
            member.state = WorkerState.READY
        return member.state is WorkerState.READY

    def ended(self, worker: int, now: float) -> Member | None:
        """It is dead. Return what it was."""
        member = self.members.pop(worker, None)
        if member is None:
            return None
        if member.state is not WorkerState.RETIRING:
            self.lost += 1
        if member.state is WorkerState.STARTING:
            self._stillborn += 1
            self._not_before = now + min(FIRST_PAUSE * 2 ** (self._stillborn - 1), LONGEST_PAUSE)
        return member

    def pause(self, now: float) -> float | None:
        """Return the seconds until `start` is worth another call; None if it is not."""
        if len(self._staying()) >= self.wanted:
            return None
        return max(0.0, self._not_before - now)

    def is_settled(self) -> bool:
        """Whether there are exactly as many workers as wanted, and all are ready."""
        members = self.members.values()
        return len(members) == self.wanted and all(member.state is WorkerState.READY for member in members)

    def _staying(self) -> list[Member]:
        going = (WorkerState.RETIRING, WorkerState.KILLED)
        return [member for member in self.members.values() if member.state not in going]
