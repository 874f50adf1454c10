"""The plan that will run, as plain data: what `explain` tells, for machines.

What is told here is asked of the opened plan, not worked out a second time. `explained_text.py` writes it for people.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from loader_service.dataset.chain import ChainTold, StepTold
from loader_service.dataset.declaration import Declaration
from loader_service.dataset.plan import Plan
from loader_service.dataset.shown import written
from loader_service.dataset.whole import AnyPlan
from loader_service.protocol.prefetch import prefetch_of, slots_of
from loader_service.protocol.shard import WHOLE, layout_of
from loader_service.protocol.spec import DatasetInfo, FieldSpec, Spec


def explain(plan: AnyPlan) -> dict[str, Any]:
    """Return all that is known of a plan. User code is run some times more, to find out whether it is pure.

    Returns:
        Plain data: `key` and `parts`, what the key is made of; `samples`; `chains`, one for each source: what rows are
        made of, and by which steps; `finish`; `order`; `batch`; `row`, the fields of a batch without their first axis;
        `bytes` and `memory`; `pure`. Sizes are in bytes. Without `chains`, the source makes whole batches.
    """
    info, declaration = plan.info, plan.declaration
    told: dict[str, Any] = {
        "key": info.key,
        "parts": info.parts,
        "source": written(declaration.source),
        "classes": list(plan.class_names),
        "samples": {"source": plan.samples, "epoch": plan.samples},
        "chains": [],
        "finish": [],
        "order": _order(declaration, info),
        "batch": {
            "rows": info.batch_size,
            "epoch": info.batches_per_epoch,
            "remainder": info.remainder,
            "short": info.short,
            "whole": info.whole,
        },
        "row": _plain(info.spec),
        **_sizes(info, plan.bundled_info if isinstance(plan, Plan) else info),
        "pure": _purity(plan),
        "bad_samples": {
            "policy": "replace" if info.most_replaced else "raise",
            "most": info.most_replaced,
            "known": len(plan.ledger),
        },
    }
    if isinstance(plan, Plan):
        told["samples"]["source"] = plan.source_samples
        told["chains"] = [
            {"first": first, "source": written(source), **_chain(chain)} for first, source, chain in plan.chains()
        ]
        told["finish"] = [{"step": written(step), "row": _plain(spec)} for step, spec in plan.finishes()]
    return told


def _chain(chain: ChainTold) -> dict[str, Any]:
    before = chain.source
    steps = []
    for step in chain.steps:
        steps.append(_step(step, before))
        before = step.spec
    return {
        "reads": _plain(chain.source),
        "many_rows": list(chain.columns),
        "read_into_row": list(chain.read_into_row),
        "by_user": chain.by_user,
        "steps": steps,
    }


def _step(step: StepTold, before: Spec) -> dict[str, Any]:
    """Return what is told of a step; `changes` are the fields that are others after it."""
    after = _plain(step.spec)
    return {
        "step": written(step.transform),
        "many_rows": step.many_rows,
        "into_row": step.into_row,
        "random": step.random,
        "kept": step.kept,
        "fused": list(step.fused),
        "decoding": None if step.decoding is None else asdict(step.decoding),
        "row": after,
        "changes": {name: field for name, field in after.items() if step.spec[name] != before.get(name)},
        "drops": [name for name in before if name not in step.spec],
    }


def _order(declaration: Declaration, info: DatasetInfo) -> dict[str, Any]:
    buckets = declaration.bucket_by_length
    return {
        "shuffled": info.shuffled,
        "seed": declaration.seed if declaration.shuffle else None,
        "selection": [written(step) for step in declaration.select],
        "draws": declaration.draws,
        "buckets": None if buckets is None else {"field": buckets.field, "boundaries": list(buckets.boundaries)},
    }


def _sizes(info: DatasetInfo, in_slots: DatasetInfo) -> dict[str, dict[str, int]]:
    layout, of_slots = layout_of(info, WHOLE), layout_of(in_slots, WHOLE)
    prefetch = prefetch_of(0, of_slots.slot_nbytes, in_slots)
    slots = slots_of(prefetch)
    return {
        "bytes": {
            "sample": sum(field.nbytes for field in info.spec.values()),
            "batch": sum(place.nbytes for place in layout.arrays.values()),
            "stage": sum(place.nbytes for place in layout.stage.values()),
            "slot": of_slots.slot_nbytes,
        },
        "memory": {
            "prefetch": prefetch * in_slots.bundle,
            "slots": slots,
            "batches_a_slot": in_slots.bundle,
            "nbytes": slots * of_slots.slot_nbytes,
        },
    }


def _purity(plan: AnyPlan) -> dict[str, Any]:
    return {"live": plan.info.live, "user_code": list(dict.fromkeys(_user_code(plan))), "doubts": plan.doubts()}


def _user_code(plan: AnyPlan) -> Iterator[str]:
    """Yield what is run of the user's own, by its name."""
    sources = [source for _, source, _ in plan.chains()] if isinstance(plan, Plan) else [plan.declaration.source]
    steps = [step.transform for _, _, told in plan.chains() for step in told.steps] if isinstance(plan, Plan) else []
    for step in (*sources, *steps, *plan.declaration.select, *plan.declaration.finish):
        code = getattr(step, "function", None) or getattr(step, "attr", None)
        if code is not None:
            yield code.name


def _plain(spec: Spec) -> dict[str, dict[str, Any]]:
    return {name: _field(field) for name, field in spec.items()}


def _field(field: FieldSpec) -> dict[str, Any]:
    plain: dict[str, Any] = {"shape": list(field.shape), "dtype": field.dtype}
    return {
        **plain,
        **({"most": list(field.most)} if field.most else {}),
        **({"form": field.form} if field.form != "dense" else {}),
        "nbytes": field.nbytes,
    }
