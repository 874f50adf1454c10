"""Where each row of each field sits inside an arena. Arithmetic only: no memory is touched here.

    arena   | slot 0 | slot 1 | ... | slot S-1 |
    slot    | image: B rows | pad | label: B rows | pad | ids: B rows | pad |

A field's rows are contiguous and start on a multiple of ALIGNMENT, so one field of one slot is one NumPy
array without a copy, which TensorFlow and JAX alias. Daemon, worker and client compute the same layout
from the same spec; only the spec travels. The last field holds the sample ids, for `batch.ids`.
"""

from __future__ import annotations

from dataclasses import dataclass

from loader_service.protocol.spec import FieldSpec, Spec

ALIGNMENT = 64  # bytes: a cache line, and what TensorFlow and JAX ask of memory they do not copy
PAGE = 4096  # bytes: slots start on pages, so no two share one

IDS = "ids"  # the hidden last field: int64 (), -1 in padding rows
IDS_SPEC = FieldSpec((), "int64")


@dataclass(frozen=True)
class Layout:
    """The offsets of one slot's fields, and the room that a slot takes."""

    batch_size: int  # rows
    fields: dict[str, tuple[int, FieldSpec]]  # name -> offset in bytes from the start of the slot, spec
    slot_nbytes: int  # from the start of one slot to the start of the next

    @classmethod
    def of(cls, spec: Spec, batch_size: int) -> Layout:
        """Lay out `batch_size` rows of every field of `spec`, and of their ids.

        >>> layout = Layout.of({"x": FieldSpec((5,), "uint8")}, batch_size=3)
        >>> [(name, offset) for name, (offset, _) in layout.fields.items()], layout.slot_nbytes
        ([('x', 0), ('ids', 64)], 4096)
        """
        fields, end = {}, 0
        for name, field in {**spec, IDS: IDS_SPEC}.items():
            fields[name] = (end, field)
            end += round_up(batch_size * field.nbytes, ALIGNMENT)
        return cls(batch_size, fields, round_up(end, PAGE))


def round_up(nbytes: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that holds `nbytes`.

    >>> round_up(65, 64)
    128
    """
    return -(-nbytes // multiple) * multiple
