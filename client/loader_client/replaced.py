"""What a trainer is told of samples that cannot be made and are replaced, as warnings."""

from __future__ import annotations

import logging

from loader_service.protocol.ledger import BadSample, Ledger, named

log = logging.getLogger("loader_client")


def tell_replaced(samples: list[BadSample]) -> None:
    """Say which samples are replaced from here on."""
    if samples:
        log.warning("%s cannot be made; another takes its place: %s", _counted(samples), named(samples))


def tell_since(ledger: Ledger, earlier: str) -> None:
    """Say what a state does not know that was saved when the ledger had the hash `earlier`.

    Going on is right in any case: a ledger only grows. But the batches are not those of the run that saved the state
    where samples are concerned that one of the two replaces, and the other does not.
    """
    if earlier == ledger.hash:
        return
    since = ledger.since(earlier)
    if since is not None:
        log.warning(
            "since the state was saved, %s had to be replaced; batches differ in their rows: %s",
            _counted(since),
            named(since),
        )
    else:
        log.warning(
            "the state was saved with other samples replaced (ledger %s) than are replaced here (ledger %s): batches "
            "differ in their rows. Ledgers lie in loader-service/ledgers in the state folder of the daemon's user",
            earlier,
            ledger.hash or "none",
        )


def _counted(samples: list[BadSample]) -> str:
    return "a sample" if len(samples) == 1 else f"{len(samples):,} samples"
