"""A daemon of one client: started by it, seen by nobody else, dead when it is."""

from __future__ import annotations

import os

from loader_service.protocol.address import Address, private_address
from loader_service.protocol.launch import end, launch


class PrivateDaemon:
    """A daemon process, from its start to its end; it also ends when this process dies, however that happens."""

    def __init__(self, **settings: str | float | None) -> None:
        """Start it with some of a daemon's settings, and wait until its workers accept tasks.

        Raises:
            LoaderError: If it could not start; in its own words.
        """
        self.address: Address = private_address()
        self._options = ["--owner", str(os.getpid()), "--log-level", "WARNING"]
        for name, value in settings.items():
            self._options += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
        self._unwanted = False
        self._process, _ = launch(self.address, self._options)

    def restart(self) -> None:
        """Start another in place of one that died; raises as the first start does."""
        end(self._process)
        self._process, _ = launch(self.address, self._options)
        if self._unwanted:  # it was stopped meanwhile, by another thread
            end(self._process)

    def stop(self) -> None:
        """Stop it, and wait until it is gone, workers and all."""
        self._unwanted = True
        end(self._process)
