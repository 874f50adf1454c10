"""Where a daemon is reached: `ipc://FOLDER`, and what lies in that folder.

    FOLDER/lock        held by flock while the daemon lives; holds its pid
    FOLDER/lifeline    AF_UNIX: who is who, descriptors, and end-of-file as the evidence of death
    FOLDER/clients     ZeroMQ: control and batches
    FOLDER/workers     ZeroMQ: tasks
    FOLDER/daemon.log  of a detached daemon

The folder has mode 0700: the file system keeps other users out. The lock decides whose the address is, since
libzmq's bind silently takes over the path of a live daemon; it dies with its holder, so nothing can be stale.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from loader_service.protocol.errors import AddressError, AddressInUse

VARIABLE = "LOADER_SERVICE_ADDRESS"
SCHEME = "ipc://"
MAX_PATH = 107  # bytes of a socket's path that Linux takes
OURS = ("lock", "lifeline", "clients", "workers", "daemon.log")
PRIVATE = "private-"
ELSEWHERE = f"Choose another with --address or ${VARIABLE}; private daemons use $XDG_RUNTIME_DIR, else $TMPDIR."


@dataclass(frozen=True)
class Address:
    """The folder of one daemon."""

    folder: Path

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read what users write.

        >>> str(Address.parse("ipc:///run/loader"))
        'ipc:///run/loader'

        Raises:
            AddressError: If it is no ipc address, or too long for a socket.
        """
        if not text.startswith(SCHEME) or len(text) == len(SCHEME):
            raise AddressError(f"address {text!r}: expected ipc://FOLDER, for example ipc:///tmp/my-loader")
        try:
            folder = Path(text.removeprefix(SCHEME)).expanduser().absolute()
        except RuntimeError as error:  # ~nobody
            raise AddressError(f"address {text!r}: {error}") from error
        excess = len(os.fsencode(folder / "lifeline")) - MAX_PATH
        if excess > 0:
            raise AddressError(
                f"address {text!r} is {excess} bytes longer than a socket's path may be "
                f"({MAX_PATH} bytes): choose a shorter folder."
            )
        return cls(folder)

    @classmethod
    def default(cls) -> Address:
        """Return $LOADER_SERVICE_ADDRESS, else the folder `default` in the user's runtime folder."""
        named = os.environ.get(VARIABLE)
        return cls.parse(named or f"{SCHEME}{runtime_folder() / 'default'}")

    def __str__(self) -> str:
        return f"{SCHEME}{self.folder}"

    @property
    def lifeline(self) -> Path:
        """Return the path of the AF_UNIX socket."""
        return self.folder / "lifeline"

    @property
    def log(self) -> Path:
        """Return the path of a detached daemon's log."""
        return self.folder / "daemon.log"

    @property
    def clients(self) -> str:
        """Return the ZeroMQ endpoint for clients."""
        return f"ipc://{self.folder / 'clients'}"

    @property
    def workers(self) -> str:
        """Return the ZeroMQ endpoint for workers."""
        return f"ipc://{self.folder / 'workers'}"


def runtime_folder() -> Path:
    """Return the user's folder for sockets: in $XDG_RUNTIME_DIR, else in the folder for temporary files."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and os.access(base, os.W_OK):
        return Path(base) / "loader-service"
    return Path(tempfile.gettempdir()) / f"loader-service-{os.getuid()}"


def private_address() -> Address:
    """Make a folder for a daemon of one client; first remove those whose daemons were killed."""
    folder = runtime_folder()
    own_folder(folder)
    for left in folder.glob(f"{PRIVATE}*"):
        _remove_if_dead(left)
    return Address.parse(f"{SCHEME}{tempfile.mkdtemp(prefix=f'{PRIVATE}{os.getpid()}-', dir=folder)}")


@contextmanager
def hold(address: Address) -> Iterator[None]:
    """Hold an address for the length of the block; at its end only a log is left in the folder.

    Raises:
        AddressInUse: If a live daemon holds it.
        AddressError: If the folder cannot be made or is open to other users.
    """
    own_folder(address.folder)
    with _locked(address) as lock:
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        _remove_sockets(address.folder)
        try:
            yield
        finally:
            _remove_sockets(address.folder)
            (address.folder / "lock").unlink(missing_ok=True)
            if address.folder.name.startswith(PRIVATE):
                shutil.rmtree(address.folder, ignore_errors=True)


def _locked(address: Address) -> IO[str]:
    """Return the lock's file, locked; closing it unlocks."""
    path = address.folder / "lock"
    while True:
        lock = path.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise AddressInUse(
                f"address {address} is in use by a live daemon (pid {holder}). "
                f"Stop it with `loader-service stop --address {address}`, or choose another --address."
            ) from None
        # A daemon that ended between our open and our flock took the file away: what we locked is nobody's.
        if path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat()):
            return lock
        lock.close()


def _remove_sockets(folder: Path) -> None:
    for name in ("lifeline", "clients", "workers"):
        (folder / name).unlink(missing_ok=True)


def _remove_if_dead(folder: Path) -> None:
    """Remove a private daemon's folder if neither its owner nor the daemon lives."""
    owner = folder.name.removeprefix(PRIVATE).partition("-")[0]
    if Path(f"/proc/{owner}").exists():
        return
    try:
        with (folder / "lock").open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except (BlockingIOError, FileNotFoundError):
        return


def own_folder(folder: Path) -> None:
    """Make the folder with mode 0700, or see to it that it is ours alone."""
    missing = [parent for parent in folder.parents if not parent.exists()]
    try:
        for made in (*reversed(missing), folder):  # mkdir(parents=True) would open the parents to others
            made.mkdir(mode=0o700, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise AddressError(f"the folder {folder} for sockets cannot be made: {error.strerror}. {ELSEWHERE}") from error
    if found.st_uid != os.getuid():
        raise AddressError(f"the folder {folder} for sockets belongs to uid {found.st_uid}, not to you. {ELSEWHERE}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise AddressError(
            f"the folder {folder} for sockets is not writable (mode {stat.S_IMODE(found.st_mode):o}). {ELSEWHERE}"
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        if any(entry.name not in OURS for entry in folder.iterdir()):
            raise AddressError(
                f"the folder {folder} is open to other users (mode {stat.S_IMODE(found.st_mode):o}) and holds "
                "other files: an address needs a folder of its own."
            )
        folder.chmod(0o700)
