"""Labels in pictures: in any script, of any length."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader_service.dataset.preview import writing
from loader_service.dataset.preview.writing import ascii_of, fitted, width_of, write


@pytest.fixture(params=[True, False], ids=["OpenCV 5", "OpenCV 4"])
def fonts(request, monkeypatch):
    if request.param and not writing.HAS_FONTS:
        pytest.skip("needs OpenCV 5")
    monkeypatch.setattr(writing, "HAS_FONTS", request.param)


def test_a_text_that_fits_stays_and_one_too_long_ends_with_an_ellipsis(fonts):
    assert fitted("cat", 160) == "cat"

    cut = fitted("a class with a name that nobody can read in one line", 160)

    assert cut.startswith("a class with")
    assert cut.endswith("…")
    assert 100 < width_of(cut) <= 160


@given(st.text(max_size=200), st.integers(20, 300))
def test_no_text_is_wider_than_it_may_be(text, width):
    assert width_of(fitted(text, width)) <= width


@pytest.mark.parametrize("text", ["cat", "Käse", "猫", "line\nbreak", "\x00\x07", "👩‍🚀", ""])
def test_any_text_can_be_written(fonts, text):
    page = np.full((40, 200, 3), 255, np.uint8)

    write(page, text, 4, 4, (0, 0, 0))

    assert (page.min() < 128) == bool(text.strip("\n\x00\x07"))


def test_where_there_is_only_ascii_accents_are_lost_and_other_scripts_are_question_marks():
    assert ascii_of("Crème brûlée, Łódź, 猫 …") == "Creme brulee, Lodz, ? ..."
