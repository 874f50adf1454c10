"""What several commands share: the address, and how to ask a daemon one question."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from loader_service import __version__
from loader_service.protocol.address import VARIABLE, Address
from loader_service.protocol.codec import error_of
from loader_service.protocol.errors import ProtocolError
from loader_service.protocol.link import Link
from loader_service.protocol.messages import Failed, Status

AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        help=f"The daemon's address, ipc://FOLDER. Default: ${VARIABLE}, else a folder of yours in the runtime folder.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]


def address_of(text: str | None) -> Address:
    """Return the address that was given, or the default one."""
    return Address.default() if text is None else Address.parse(text)


def ask_status(address: Address, question: Any, patience: float) -> dict[str, Any]:
    """Ask a daemon something that it answers with its status.

    Raises:
        NoDaemon: If nobody answers at the address.
    """
    link = Link(address, "client", __version__)
    try:
        answer = link.ask(question, patience)
    finally:
        link.close()
    if isinstance(answer, Failed):
        raise error_of(answer)
    if not isinstance(answer, Status):
        raise ProtocolError(f"the daemon at {address} answered with {answer!r}")
    return answer.status
