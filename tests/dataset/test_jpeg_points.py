"""What is remembered of a JPEG makes no difference but to the time that a part of it takes; see jpeg_points.h."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader_service.dataset.sources import jpeg_region
from tests.dataset.jpegs import COMMON, decoded, jpeg, windows

pytestmark = pytest.mark.skipif(jpeg_region.kernel() is None, reason="the kernel is not built here")

SIDES = ((61, 50), (203, 330), (400, 500))  # the last one, in 4:4:4, has three stretches
STRETCH = 1304  # bytes
SPLIT = 400  # rows: what lies above is damaged, what lies below is wanted


@pytest.fixture(params=[4, 1000])
def forgetful(request, monkeypatch):
    """Begin with nothing remembered, with room for so many stretches, and leave nothing behind."""
    monkeypatch.setattr(jpeg_region, "MOST_POINTS", request.param * STRETCH)
    jpeg_region.kernel.cache_clear()
    yield
    jpeg_region.kernel.cache_clear()


roomy = pytest.mark.parametrize("forgetful", [1000], indirect=True)


@pytest.fixture
def all_alike(monkeypatch):
    """All files are taken for the same one: what was found in one is used in another."""
    monkeypatch.setattr(jpeg_region, "xxh3_64_intdigest", lambda encoded: 7)


def part_of(encoded, window, shrink=1, *, remember=True):
    """Return a part of a JPEG; None, if it is refused."""
    top, left, rows, columns = window
    return jpeg_region.kernel().region(
        encoded, shrink, top, left, np.empty((rows, columns, 3), np.uint8), remember=remember
    )


def damaged_above(encoded):
    """Return a JPEG of as many codes, of which those in the upper quarter are others."""
    begin = encoded.index(b"\xff\xda") + 14
    changed = np.frombuffer(encoded, np.uint8).copy()
    upper = changed[begin : begin + (len(encoded) - begin) // 4]
    stands = upper == 0xFF
    stands[1:] |= upper[:-1] == 0xFF  # two bytes, which mean one
    upper[~stands & (upper != 0xD5)] ^= 0x2A  # which no other one becomes 0xFF by
    return changed.tobytes()


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("kind", COMMON)
@given(st.data())
@settings(max_examples=10, deadline=None)
def test_a_part_is_the_same_whatever_parts_were_decoded_before(kind, data):
    height, width = data.draw(st.sampled_from(SIDES))
    shrink = data.draw(st.sampled_from([1, 2, 4, 8]))
    encoded = jpeg(kind, height, width)
    whole = decoded(encoded, "RGB", shrink)

    for window in data.draw(st.lists(windows(*whole.shape[:2]), min_size=1, max_size=5)):
        top, left, rows, columns = window
        assert np.array_equal(part_of(encoded, window, shrink), whole[top : top + rows, left : left + columns])


@pytest.mark.usefixtures("forgetful")
@given(st.integers(0, 2**30), st.integers(1, 6), st.lists(windows(203, 330), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_is_refused_for_the_same_parts(seed, count, wanted):
    """A batch must not depend on what its worker has decoded before."""
    rng = np.random.default_rng(seed)
    damaged = np.frombuffer(jpeg("4:2:0", 203, 330), np.uint8).copy()
    damaged[rng.integers(600, len(damaged), count)] = rng.integers(0, 256, count)
    encoded = damaged.tobytes()

    for window in wanted:
        plain, part = (part_of(encoded, window, remember=remember) for remember in (False, True))
        assert (part is None) == (plain is None)
        assert plain is None or np.array_equal(part, plain)


@pytest.mark.usefixtures("forgetful")
@given(st.integers(0, 2**30), st.lists(windows(203, 330), min_size=2, max_size=6))
@settings(max_examples=30, deadline=None)
def test_what_others_were_writing_when_they_died_is_not_believed(seed, wanted):
    rng = np.random.default_rng(seed)
    encoded = jpeg("4:2:0", 203, 330)
    whole = decoded(encoded, "RGB")
    points = jpeg_region.kernel().points

    for window in wanted:
        top, left, rows, columns = window
        assert np.array_equal(part_of(encoded, window), whole[top : top + rows, left : left + columns])
        (known,) = np.nonzero(points)
        if len(known):
            points[rng.choice(known, 5)] = rng.integers(0, 256, 5)


@roomy
@pytest.mark.usefixtures("forgetful", "all_alike")
@pytest.mark.parametrize("kind", ["4:4:4", "4:2:0", "4:2:2", "grey"])
def test_what_is_known_is_not_parsed_again(kind):
    """Seen by damage that nobody comes across any more: else, it is refused, or spoils what comes behind it."""
    encoded = jpeg(kind, 700, 900)
    below = (SPLIT, 100, 200, 300)
    expected = part_of(encoded, below, remember=False)
    assert not np.array_equal(part_of(damaged_above(encoded), below, remember=False), expected)

    part_of(encoded, below)

    assert np.array_equal(part_of(damaged_above(encoded), below), expected)


@roomy
@pytest.mark.usefixtures("forgetful", "all_alike")
def test_what_lies_beside_a_part_is_parsed_once():
    """Each row of a narrow part is entered by itself."""
    encoded = jpeg("4:2:0", 700, 900)
    narrow = (0, 400, 600, 64)
    expected = part_of(encoded, narrow, remember=False)
    part_of(encoded, (650, 0, 50, 900))
    kernel = jpeg_region.kernel()
    before = kernel.points.copy()

    assert np.array_equal(part_of(encoded, narrow), expected)
    assert np.array_equal(kernel.points, before)  # nothing was left to be found


def test_forks_share_what_they_know():
    """Each worker finds what any of them has found."""
    script = """
import os
import numpy as np
import simplejpeg
from loader_service.dataset.sources import jpeg_region

jpeg_region.MOST_POINTS = 2**20
kernel = jpeg_region.kernel()
assert not kernel.points.any()
child = os.fork()
if not child:
    encoded = simplejpeg.encode_jpeg(np.zeros((203, 330, 3), np.uint8))
    kernel.region(encoded, 1, 100, 100, np.empty((50, 60, 3), np.uint8), remember=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(int(kernel.points.any()))
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout == "1\n"


def test_without_memory_nothing_is_remembered_and_parts_are_the_same(monkeypatch):
    """Where the kernel promises no more than it has, there may be none."""
    monkeypatch.setattr(jpeg_region, "all_memory", lambda: -1)
    jpeg_region.kernel.cache_clear()
    encoded = jpeg("4:2:0", 203, 330)
    try:
        assert len(jpeg_region.kernel().points) == 0
        assert np.array_equal(part_of(encoded, (50, 60, 70, 80)), decoded(encoded, "RGB")[50:120, 60:140])
    finally:
        jpeg_region.kernel.cache_clear()
