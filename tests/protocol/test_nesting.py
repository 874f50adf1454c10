"""Groups of fields: what users' functions return in dicts within dicts, and what lies flat in the rows of a batch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader_service.protocol.errors import DatasetError
from loader_service.protocol.nesting import flat, nested

NAMES = st.sampled_from(["a", "b", "two words"])
INNER = st.dictionaries(NAMES, st.integers(), min_size=1)
GROUPS = st.dictionaries(NAMES, st.integers() | INNER, min_size=1)


@given(st.dictionaries(NAMES, st.integers() | GROUPS))
def test_what_is_laid_flat_is_nested_again_as_it_was(sample):
    fields = flat(sample)

    assert not any(isinstance(value, dict) for value in fields.values())
    assert nested(fields) == sample


def test_one_name_within_a_dict_and_without_is_refused():
    for sample in ({"meta/age": 1, "meta": {"age": 2}}, {"meta": {"age": 2}, "meta/age": 1}):
        with pytest.raises(
            DatasetError, match="field 'meta/age' is there twice: once within a dict, once under this name"
        ):
            flat(sample)


@pytest.mark.parametrize(
    "fields, told",
    [
        ({"meta": 1, "meta/age": 2}, "'meta/age' lies within 'meta', which is a field itself: rename one"),
        ({"meta/age": 2, "meta": 1}, "'meta' is a field, and has fields within: rename one"),
    ],
)
def test_a_field_that_has_fields_within_is_refused(fields, told):
    with pytest.raises(DatasetError, match=told):
        nested(fields)
