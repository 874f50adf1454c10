import numpy as np

from loader_client import Batch
from loader_service.protocol.layout import IDS


def test_repr_says_which_batch_it_is_and_what_is_in_it():
    arrays = {IDS: np.arange(3), "x": np.zeros((3, 8, 8), np.uint8), "label": np.zeros(3, np.int64)}

    assert repr(Batch(25, 2, arrays)) == "<Batch 25, in epoch 2: 3 rows of x: uint8 (3, 8, 8), label: int64 (3,)>"
