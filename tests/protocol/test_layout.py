from hypothesis import given
from hypothesis import strategies as st

from loader_service.protocol.layout import ALIGNMENT, IDS, PAGE, Layout
from loader_service.protocol.spec import DTYPES, FieldSpec

shapes = st.lists(st.integers(0, 40), max_size=3).map(tuple)
specs = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda name: name != IDS),
    st.builds(FieldSpec, shapes, st.sampled_from(sorted(DTYPES))),
    min_size=1,
    max_size=6,
)


def spans(layout):
    """Yield the first byte of each field, and the byte after its last."""
    for offset, field in layout.fields.values():
        yield offset, offset + layout.batch_size * field.nbytes


@given(specs, st.integers(1, 500))
def test_every_field_begins_on_a_cache_line(spec, batch_size):
    """TensorFlow and JAX copy what does not."""
    layout = Layout.of(spec, batch_size)

    assert all(offset % ALIGNMENT == 0 for offset, _ in layout.fields.values())
    assert layout.slot_nbytes % PAGE == 0


@given(specs, st.integers(1, 500))
def test_no_field_reaches_into_the_next_one_or_out_of_the_slot(spec, batch_size):
    layout = Layout.of(spec, batch_size)

    bounds = [bound for span in spans(layout) for bound in span]
    assert bounds == sorted(bounds)
    assert bounds[0] == 0
    assert bounds[-1] <= layout.slot_nbytes


@given(specs, st.integers(1, 500))
def test_fields_keep_their_order_and_the_ids_come_last(spec, batch_size):
    layout = Layout.of(spec, batch_size)

    assert list(layout.fields) == [*spec, IDS]


@given(specs, st.integers(1, 500))
def test_a_slot_wastes_less_than_a_page_and_a_cache_line_for_each_field(spec, batch_size):
    layout = Layout.of(spec, batch_size)

    used = sum(end - start for start, end in spans(layout))
    assert layout.slot_nbytes - used < PAGE + ALIGNMENT * len(layout.fields)
