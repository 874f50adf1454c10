"""A daemon of one client: started by it, seen by nobody else, dead when it is."""

from __future__ import annotations

import os

from loader_service.protocol.address import Address, private_address
from loader_service.protocol.launch import end, launch


class PrivateDaemon:
    """A daemon process, from its start to its end; it also ends when this process dies, however that happens."""

    def __init__(self, workers: int | None, memory: str | int | None) -> None:
        """Start it, and wait until its workers accept tasks.

        Raises:
            LoaderError: If it could not start; in its own words.
        """
        self.address: Address = private_address()
        options = ["--owner", str(os.getpid()), "--log-level", "WARNING"]
        options += ["--workers", "auto" if workers is None else str(workers)]
        options += [] if memory is None else ["--memory", str(memory)]
        self._process, _ = launch(self.address, options)

    def terminate(self) -> None:
        """Have it stop, some time soon."""
        self._process.terminate()

    def stop(self) -> None:
        """Stop it, and wait until it is gone, workers and all."""
        end(self._process)
