"""A daemon of one client: started by it, seen by nobody else, dead when it is."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys

from loader_service.protocol.address import Address, private_address
from loader_service.protocol.errors import DaemonLost, error_from_plain

START_PATIENCE = 60.0  # seconds
STOP_PATIENCE = 10.0  # seconds


class PrivateDaemon:
    """A daemon process, from its start to its end; it also ends when this process dies, however that happens."""

    def __init__(self, workers: int | None, memory: str | int | None) -> None:
        """Start it, and wait until its workers accept tasks.

        Raises:
            LoaderError: If it could not start; in its own words.
        """
        self.address: Address = private_address()
        ready, theirs = os.pipe()
        command = [sys.executable, "-P", "-m", "loader_service.daemon", "--address", str(self.address)]
        command += ["--owner", str(os.getpid()), "--ready-fd", str(theirs), "--log-level", "WARNING"]
        command += ["--workers", "auto" if workers is None else str(workers)]
        command += [] if memory is None else ["--memory", str(memory)]
        try:
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs],
                stdin=subprocess.DEVNULL,
                stdout=2,  # workers' prints are shown where errors are
                start_new_session=True,  # Ctrl-C is for the trainer, which ends its daemon in order
            )
        finally:
            os.close(theirs)
        with os.fdopen(ready, "rb") as pipe:
            self._await_ready(pipe.fileno())

    def _await_ready(self, pipe: int) -> None:
        if not select.select([pipe], [], [], START_PATIENCE)[0]:
            self._process.kill()
            self._process.wait()
            raise DaemonLost(f"a private daemon was started, and was not ready after {START_PATIENCE:.0f} s")
        told = json.loads(os.read(pipe, 2**20) or b"{}")
        if "pid" not in told:
            self._process.wait(STOP_PATIENCE)
            if "error" in told:
                raise error_from_plain(*told["error"])
            raise DaemonLost(
                f"a private daemon was started, and ended with exit code {self._process.returncode} "
                "before it was ready; its last words are on stderr"
            )

    def terminate(self) -> None:
        """Have it stop, some time soon."""
        self._process.terminate()

    def stop(self) -> None:
        """Stop it, and wait until it is gone, workers and all."""
        self.terminate()
        try:
            self._process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
