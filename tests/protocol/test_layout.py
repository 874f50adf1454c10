from hypothesis import given
from hypothesis import strategies as st

from loader_service.protocol.layout import ALIGNMENT, IDS, PAGE, Layout, splits_of
from loader_service.protocol.spec import DTYPES, FieldSpec

shapes = st.lists(st.integers(0, 40), max_size=3).map(tuple)
specs = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda name: name != IDS),
    st.builds(FieldSpec, shapes, st.sampled_from(sorted(DTYPES))),
    min_size=1,
    max_size=6,
)


def spans(layout):
    """Yield the first byte of each array, and the byte after its last."""
    for place in (*layout.arrays.values(), layout.shapes, *layout.stage.values()):
        yield place.offset, place.offset + place.nbytes


@given(specs, st.integers(1, 500))
def test_every_field_begins_on_a_cache_line(spec, batch_size):
    """TensorFlow and JAX copy what does not."""
    layout = Layout.of(spec, batch_size)

    assert all(place.offset % ALIGNMENT == 0 for place in layout.arrays.values())
    assert layout.slot_nbytes % PAGE == 0


@given(specs, st.integers(1, 500))
def test_no_field_reaches_into_the_next_one_or_out_of_the_slot(spec, batch_size):
    layout = Layout.of(spec, batch_size)

    bounds = [bound for span in spans(layout) for bound in span]
    assert bounds == sorted(bounds)
    assert bounds[0] == 0
    assert bounds[-1] <= layout.slot_nbytes


@given(specs, st.integers(1, 500))
def test_what_lies_beyond_a_slot_has_pages_of_its_own_before_the_next_slot(spec, batch_size):
    layout = Layout.of(spec, batch_size, whole=True)

    end = layout.slot_nbytes
    for place in layout.arrays.values():
        assert place.beyond == end
        assert place.most_nbytes >= 16 * place.nbytes
        end += -(-place.most_nbytes // PAGE) * PAGE
    assert layout.stride == end
    assert Layout.of(spec, batch_size).stride == Layout.of(spec, batch_size).slot_nbytes


@given(specs, st.integers(1, 500))
def test_fields_keep_their_order_and_the_ids_come_last(spec, batch_size):
    layout = Layout.of(spec, batch_size)

    assert list(layout.arrays) == [*spec, IDS]


@given(specs, st.integers(1, 500))
def test_a_slot_wastes_less_than_a_page_and_a_cache_line_for_each_field(spec, batch_size):
    layout = Layout.of(spec, batch_size)

    used = sum(end - start for start, end in spans(layout))
    assert layout.slot_nbytes - used < PAGE + ALIGNMENT * len(layout.arrays)


@given(specs, specs, st.integers(1, 500), st.booleans())
def test_room_for_what_differs_and_for_a_stage_overlaps_with_nothing(spec, stage, batch_size, whole):
    for name in spec:
        ragged = FieldSpec((None, 2), "float32", most=(5,), form="ragged")
        spec = {**spec, name: ragged}
        break
    layout = Layout.of(spec, batch_size, stage, whole=whole)

    bounds = [bound for span in spans(layout) for bound in span]
    assert bounds == sorted(bounds)
    assert bounds[-1] <= layout.slot_nbytes
    assert layout.arrays[splits_of(name)].shape == (batch_size + 1,)
    assert set(layout.rows) >= set(stage)
    assert whole <= all(place.varies for place in layout.arrays.values())
