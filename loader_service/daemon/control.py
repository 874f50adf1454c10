"""What `status` tells: one plain object, put together from everything that counts something."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from loader_service import __version__
from loader_service.pool.roster import WorkerState
from loader_service.protocol.ledger import Ledger

if TYPE_CHECKING:
    from loader_service.daemon.loop import Daemon

MOST_LISTED = 20  # replaced samples, of each dataset; its ledger's file has all of them


def status_of(daemon: Daemon) -> dict[str, Any]:
    """Return the object that `status --json` prints."""
    tasks = daemon.workers.scheduler.load()
    workers = [
        {
            "number": member.number,
            "pid": member.pid,
            "state": "busy" if member.state is WorkerState.READY and tasks.get(member.number) else member.state.value,
            "tasks": tasks.get(member.number, 0),
        }
        for member in daemon.workers.roster.members.values()
    ]
    streams = []
    datasets = []
    for served in daemon.clients.arenas:
        info, shelf = served.info, served.shelf
        bundle = info.bundle
        datasets.append(
            {
                "key": info.key,
                "source": served.declaration["source"]["kind"],
                "samples": info.samples,
                "batch_size": info.batch_size // bundle,
                "batches_a_slot": bundle,
                "shard": {"rank": served.shard.rank, "count": served.shard.count},
                "slots": {"count": served.slots, "nbytes": served.layout.slot_nbytes, **shelf.counts()},
                "batches_made": shelf.made * bundle,
                "batches_shared": shelf.shared * bundle,
                "replaced_count": len(served.ledger),
                "replaced": _latest(served.ledger),
                "batches_made_again": shelf.made_again * bundle,
            }
        )
        for stream in shelf.streams:
            counts = shelf.reader_counts(stream)
            streams.append(
                {
                    "key": info.key,
                    "client_pid": daemon.clients.pid(stream[0]),
                    "stream": stream[1],
                    **counts,
                    "waits_for": counts["waits_for"] * bundle,
                }
            )
    return {
        "address": str(daemon.address),
        "version": __version__,
        "pid": os.getpid(),
        "workers": workers,
        "workers_wanted": daemon.workers.roster.wanted,
        "workers_lost": daemon.workers.roster.lost,
        "rows_redone": daemon.workers.scheduler.redone,
        "second_attempts": daemon.workers.scheduler.second_attempts,
        "named_datasets": sorted(daemon.datasets),
        "streams": streams,
        "datasets": datasets,
        "memory": {"limit": daemon.memory_limit, "used": daemon.clients.arenas.nbytes},
    }


def _latest(ledger: Ledger) -> list[dict[str, Any]]:
    """Return the samples that were replaced last."""
    return [{"id": sample.id, "file": sample.file, "reason": sample.reason} for sample in list(ledger)[-MOST_LISTED:]]
