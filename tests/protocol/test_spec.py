import numpy as np
import pytest

from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import DTYPES, FieldSpec


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_the_bytes_of_a_row_are_those_of_numpy(dtype):
    value = np.zeros((3, 5), dtype)

    assert FieldSpec.of(value).nbytes == value.nbytes


def test_a_spec_is_in_the_byte_order_of_the_machine():
    assert FieldSpec.of(np.zeros(2, ">i4")) == FieldSpec((2,), "int32")


@pytest.mark.parametrize(
    "value",
    [
        np.array(["a"]),
        np.array([b"a"]),
        np.array([None]),
        np.zeros(2, "datetime64[s]"),
        np.zeros(2, [("a", "i4"), ("b", "f4")]),
    ],
)
def test_what_holds_no_numbers_has_no_spec(value):
    with pytest.raises(DatasetError, match=r"dtype .* cannot be shared between processes: use a number or bool"):
        FieldSpec.of(value)


def test_a_negative_size_is_refused():
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        FieldSpec((-1, 3), "uint8")
