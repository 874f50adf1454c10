"""An arm that cheats is found out, and what is measured is told: small batches, and no library."""

import numpy as np
import pytest

from benchmarks.examiner import Examiner
from benchmarks.meter import Meter
from benchmarks.work import Work


class Numbers(Work):
    samples = 10
    rows = 4
    x = ((2,), np.float32)
    y = ((), np.int64)

    def identities(self, x, y):
        return y

    def examine(self, position, ids, x, y):
        assert (x[:, 0] == ids).all(), "other numbers"


def batch(*ids, dtype=np.float32):
    y = np.array(ids)
    return np.stack([y, y], axis=1).astype(dtype), y


def examine(*batches):
    examiner = Examiner(Numbers())
    for each in batches:
        examiner.saw(each)
    examiner.epoch_ended()


def test_an_epoch_with_every_sample_once_passes():
    examine(batch(3, 1, 4, 2), batch(5, 9, 0, 6), batch(8, 7))


def test_a_last_short_batch_may_be_left_out():
    examine(batch(3, 1, 4, 2), batch(5, 9, 0, 6))


@pytest.mark.parametrize(
    ("batches", "verdict"),
    [
        ([batch(3, 1, 4, 2, dtype=np.float64)], "x is float64"),
        ([batch(3, 1, 4, 2, 5)], "5 rows, expected 4"),
        ([(batch(3, 1, 4, 2)[0], batch(1, 3, 4, 2)[1])], "other numbers"),
        ([batch(3, 1, 4, 2)], "an epoch had 4 samples, expected 10"),
        ([batch(3, 1, 4, 2), batch(3, 5, 6, 7)], "a sample came twice"),
        ([batch(3, 1, 4, 2), batch(5, 6, 7, 11)], "a sample came twice, or was made up"),
        ([batch(0, 1, 2, 3), batch(4, 5, 6, 7)], "not shuffled"),
    ],
)
def test_what_is_not_the_work_is_refused(batches, verdict):
    with pytest.raises(AssertionError, match=verdict):
        examine(*batches)


def test_a_meter_measures_what_follows_the_warm_up_and_stops(nothing_left):
    meter = Meter(seconds=0.2)
    while not meter.over:
        for _ in range(10):
            meter.saw(64)
        meter.epoch_ended()

    found = meter.result()
    assert found["samples"] == 64 * found["batches"] > 0
    assert found["seconds"] >= 0.2
    assert found["pss_mib"] > 1
    assert found["others_cores"] >= 0
    assert {"gap_ms", "longest_gap_ms", "first_batch_seconds", "cpu_seconds"} <= set(found)
