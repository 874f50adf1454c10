import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader_service.protocol.arena import memory_of
from loader_service.protocol.errors import ProtocolError
from loader_service.protocol.tables import PackedStrings, TableRef, TableStore, pack_strings

pytestmark = pytest.mark.usefixtures("nothing_held")
NAME = "loader-service test"


@pytest.fixture
def store():
    store = TableStore()
    yield store
    store.close()


def hand_over(array, store):
    """Put an array into the store, as a peer would; return its reference."""
    ref = TableRef.of(array)
    with memory_of(array, NAME) as fd:
        store.adopt(ref.table, os.dup(fd))
    return ref


def test_equal_content_has_one_hash_however_it_lies_in_memory():
    array = np.arange(12).reshape(3, 4)

    assert TableRef.of(array) == TableRef.of(np.asfortranarray(array)) == TableRef.of(np.repeat(array, 2, axis=0)[::2])


@pytest.mark.parametrize("other", [np.arange(1, 13).reshape(3, 4), np.arange(12), np.arange(12.0).reshape(3, 4)])
def test_another_content_shape_or_dtype_is_another_table(other):
    assert TableRef.of(np.arange(12).reshape(3, 4)) != TableRef.of(other)


def test_the_hash_of_a_table_stays_the_same_for_ever():
    """Keys of datasets are made of it: a state that was saved last year must still be known."""
    assert TableRef.of(np.arange(3, dtype="<i8")).table == "e8852dfc187a7b3928b26561829d4517"


def test_bytes_in_the_wrong_order_are_our_own_mistake():
    with pytest.raises(AssertionError, match="wrong byte order"):
        TableRef.of(np.arange(3, dtype=">i8"))


@pytest.mark.parametrize("array", [np.arange(12.0).reshape(3, 4), np.empty((0, 4)), np.asarray(7), np.array([True])])
def test_a_table_is_read_as_it_was_handed_over(array, store):
    ref = hand_over(array, store)

    read = store.array(ref)

    np.testing.assert_array_equal(read, array)
    assert (read.dtype, read.shape) == (array.dtype, array.shape)
    assert not read.flags.writeable


def test_arrays_outlive_the_store():
    store = TableStore()
    read = store.array(hand_over(np.arange(5), store))

    store.close()

    assert read.tolist() == [0, 1, 2, 3, 4]


def test_a_second_copy_of_a_table_is_closed(store):
    ref = hand_over(np.arange(5), store)
    kept = store.fd(ref.table)

    hand_over(np.arange(5), store)

    assert store.fd(ref.table) == kept


def test_a_table_is_dropped_with_its_last_copy(store):
    """It may be handed over for the next dataset before the word comes that the last one is closed."""
    ref = hand_over(np.arange(5), store)
    hand_over(np.arange(5), store)

    store.drop(ref.table)
    assert store.array(ref).tolist() == [0, 1, 2, 3, 4]
    store.drop(ref.table)

    assert ref.table not in store


def test_only_the_tables_that_are_kept_stay(store):
    first, second = hand_over(np.arange(5), store), hand_over(np.arange(6), store)

    store.forget(keep={second.table})

    assert first.table not in store
    assert second.table in store


def test_a_table_that_was_never_handed_over_is_the_peers_mistake(store):
    with pytest.raises(ProtocolError, match="was named before it was handed over"):
        store.array(TableRef.of(np.arange(5)))


def test_a_table_shorter_than_promised_is_the_peers_mistake(store):
    """Mapped, it would be a SIGBUS where it is read."""
    ref = hand_over(np.arange(5), store)

    with pytest.raises(ProtocolError, match="holds fewer than 80,000 bytes"):
        store.array(TableRef(ref.table, "int64", (10_000,)))


file_names = st.binary(max_size=20).map(os.fsdecode)


@given(st.lists(file_names, max_size=20))
def test_strings_come_back_whatever_bytes_they_hold(strings):
    """File names are bytes, and need not be UTF-8: Python carries those as lone surrogates."""
    packed = PackedStrings(pack_strings(strings))

    assert [os.fsdecode(packed[number]) for number in range(len(packed))] == strings


@pytest.mark.parametrize("strings", [[], [""], ["", "a", ""], ["naïve", "日本", "a\0b", "\n"], ["caf\udce9"]])
def test_odd_strings_survive_shared_memory(strings, store):
    refs = {name: hand_over(array, store) for name, array in pack_strings(strings).items()}

    packed = PackedStrings({name: store.array(ref) for name, ref in refs.items()})

    assert [os.fsdecode(packed[number]) for number in range(len(packed))] == strings


def test_there_is_no_string_after_the_last():
    packed = PackedStrings(pack_strings(["a", "bc"]))

    with pytest.raises(IndexError):
        packed[2]
