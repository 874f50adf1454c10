"""What `explain` tells, written for people: one block of lines for each question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

INDENT = 12  # characters that the first word of a block has
MANY = 12  # fields that are named; of more, a number


@dataclass(frozen=True)
class Explanation:
    """The plan that will run: `str` is for people, `plain` for machines (see explain.py)."""

    plain: dict[str, Any]

    def __str__(self) -> str:
        return as_text(self.plain)

    def __repr__(self) -> str:
        return str(self)  # so that a notebook, or a prompt, shows it


def as_text(told: Mapping[str, Any]) -> str:
    """Return what `explain` tells as lines of text."""
    blocks = [("source", _source(told)), *_rows(told), *_finish(told), ("order", _order(told)), ("batch", _batch(told))]
    blocks += [("memory", _memory(told)), ("pure", _pure(told)), ("bad samples", _bad(told)), ("key", _key(told))]
    return "\n".join(line for word, lines in blocks for line in _block(word, lines))


def size(nbytes: int) -> str:
    """Return a size for people, no more exact than they want it.

    >>> [size(nbytes) for nbytes in (12, 1536, 3 * 2**19, 5 * 2**30)]
    ['12 bytes', '1.5 KiB', '1.5 MiB', '5.0 GiB']
    """
    if nbytes < 1024:
        return f"{nbytes} bytes"
    unit = next((unit for unit in ("KiB", "MiB") if nbytes < 1024 ** (2 + ("KiB", "MiB").index(unit))), "GiB")
    return f"{nbytes / 1024 ** (1 + ('KiB', 'MiB', 'GiB').index(unit)):,.1f} {unit}"


def _block(word: str, lines: Iterator[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield f"{word if not number else '':{INDENT}}{line}"


def _source(told: Mapping[str, Any]) -> Iterator[str]:
    chains, samples = told["chains"], told["samples"]
    yield told["source"]
    if told["batch"]["whole"]:
        yield f"{samples['source']:,} whole batches, made as they are: {_fields(told['row'])}"
        return
    classes = f", {len(told['classes']):,} classes" if told["classes"] else ""
    yield f"{samples['source']:,} samples{classes}"
    if len(chains) == 1:
        yield _fields(chains[0]["reads"])


def _rows(told: Mapping[str, Any]) -> Iterator[tuple[str, Iterator[str]]]:
    """Yield a block for the steps of each source: where there are several, with the source."""
    for number, chain in enumerate(told["chains"]):
        joined = len(told["chains"]) > 1
        yield (f"part {number}" if joined else "steps"), _chain(chain, joined)


def _chain(chain: Mapping[str, Any], joined: bool) -> Iterator[str]:
    if joined:
        yield f"{chain['source']}, samples from {chain['first']:,} on"
        yield _fields(chain["reads"])
    if chain["by_user"]:
        yield "read_rows of the source fills many rows at once, in place"
        return
    for number, step in enumerate(chain["steps"], 1):
        yield f"{number}. {step['step']}"
        dropped = f"; without {', '.join(step['drops'])}" if step["drops"] else ""
        yield f"   -> {_fields(step['changes']) or 'the same fields'}{dropped}"
        yield f"   {'; '.join(_way(step, number))}"
        for line in _decoding(step["decoding"]) if step["decoding"] else ():
            yield f"   {line}"
    columns = chain["many_rows"]
    others = [name for name in _last(chain) if name not in columns]
    if columns:
        straight = chain["read_into_row"]
        yield f"many rows at once: {_names(columns)}" + (f"; read into the row: {_names(straight)}" if straight else "")
    if others:
        yield f"sample by sample: {_names(others)}"


def _last(chain: Mapping[str, Any]) -> list[str]:
    return list(chain["steps"][-1]["row"] if chain["steps"] else chain["reads"])


def _way(step: Mapping[str, Any], number: int) -> Iterator[str]:
    yield "many rows at once" if step["many_rows"] else "sample by sample"
    if step["fused"]:
        others = [str(other + 1) for other in step["fused"] if other + 1 != number]
        yield f"done at once with {'step' if len(others) == 1 else 'steps'} {', '.join(others)}"
    if step["into_row"]:
        yield "writes into the row"
    if step["kept"]:
        yield "made once: kept in the cache"
    if step["random"]:
        yield "random: by (seed, epoch, position)"


def _decoding(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a step decodes of a JPEG, and what would make that faster."""
    if told["by_kernel"]:
        yield "decodes only the part of a JPEG that it shows"
    elif told["in_part"]:
        yield "decodes all of each JPEG, and shows a part: this installation was built without the JPEG kernel"
    if told["shrink"] > 1:
        yield f"decodes JPEGs at 1/{told['shrink']} of their size"
    elif told["could_shrink"] > 1:
        yield f"with shrink_on_load=True, its source would decode JPEGs at 1/{told['could_shrink']} of their size"


def _finish(told: Mapping[str, Any]) -> Iterator[tuple[str, Iterator[str]]]:
    if told["finish"]:
        lines = [line for step in told["finish"] for line in (step["step"], f"   -> {_fields(step['row'])}")]
        yield "finish", iter([*lines, "done when all rows of a batch are there"])


def _order(told: Mapping[str, Any]) -> Iterator[str]:
    order, samples = told["order"], told["samples"]
    for step in order["selection"]:
        yield f"of all samples: {step}"
    if samples["epoch"] != samples["source"]:
        yield f"{samples['epoch']:,} samples an epoch{', others in each' if order['draws'] else ''}"
    if told["batch"]["whole"]:
        yield "its own: the object says what each epoch has" + (", shuffled" if order["seed"] is not None else "")
    elif not order["shuffled"]:
        yield "that of the source, in every epoch"
    elif order["seed"] is not None:
        yield f"shuffled anew in each epoch, with seed {order['seed']}"
    else:
        yield "shuffled anew in each epoch, since samples are drawn; seed 0"
    if order["buckets"] is not None:
        boundaries = ", ".join(map(str, order["buckets"]["boundaries"]))
        yield f"batches of samples of about one length of {order['buckets']['field']!r}: up to {boundaries}, and longer"


def _batch(told: Mapping[str, Any]) -> Iterator[str]:
    batch, nbytes = told["batch"], told["bytes"]
    yield f"{batch['rows']:,} rows; {batch['epoch']:,} batches an epoch{_remainder(batch)}"
    yield _fields(told["row"])
    stage = f", {size(nbytes['stage'])} of them for rows before the finish" if nbytes["stage"] else ""
    yield f"{size(nbytes['sample'])} a sample, {size(nbytes['batch'])} a batch, {size(nbytes['slot'])} a slot{stage}"
    if any(None in field["shape"] or "form" in field for field in told["row"].values()):
        yield "room is kept for the longest rows; most batches take less of it"


def _remainder(batch: Mapping[str, Any]) -> str:
    if batch["whole"] or not batch["short"]:
        return "; what fills no batch is left out" if batch["remainder"] == "drop" else ""
    short = ", ".join(map(str, batch["short"]))
    if batch["remainder"] == "pad":
        return f"; the last with {short} samples, and rows of weight 0"
    return f"; the last with {short} rows"


def _memory(told: Mapping[str, Any]) -> Iterator[str]:
    memory = told["memory"]
    bundles = f" of {memory['batches_a_slot']} batches each" if memory["batches_a_slot"] > 1 else ""
    yield (
        f"{memory['slots']} slots{bundles}, {size(memory['nbytes'])} of shared memory, for a stream that asks "
        f"{memory['prefetch']} batches ahead"
    )
    yield "less, where the daemon's `memory` has no room for as many; further streams of the same key share"


def _pure(told: Mapping[str, Any]) -> Iterator[str]:
    pure = told["pure"]
    if pure["live"]:
        yield "no, it is live: one worker makes batches as they are asked for; no resuming, no sharing"
    elif pure["doubts"]:
        yield "it should be, but"
    else:
        yield "yes: any worker can make any batch again, with the same bytes"
    yield from pure["doubts"]
    if pure["user_code"]:
        tried = "" if pure["doubts"] or pure["live"] else ", which made the same sample again when it was tried"
        yield f"your code: {', '.join(pure['user_code'])}{tried}"


def _bad(told: Mapping[str, Any]) -> Iterator[str]:
    bad = told["bad_samples"]
    if bad["policy"] == "raise":
        yield "raise an error that names them"
    else:
        yield f"are replaced, {bad['most']:,} at most; {bad['known']:,} are known"


def _key(told: Mapping[str, Any]) -> Iterator[str]:
    yield told["key"]
    width = max(map(len, told["parts"]))
    for name, part in told["parts"].items():
        yield f"{name:{width}}  {part}"


def _fields(row: Mapping[str, Mapping[str, Any]]) -> str:
    if len(row) > MANY:
        return f"{len(row):,} fields"
    return ", ".join(f"{name}: {_field(field)}" for name, field in row.items())


def _field(field: Mapping[str, Any]) -> str:
    told = f"{field['dtype']} {tuple(field['shape'])}"
    return f"{field['form']} {told}" if "form" in field else told


def _names(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= MANY else f"{len(names):,} fields"
