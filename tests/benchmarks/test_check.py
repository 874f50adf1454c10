"""Bars are held against lines written by hand."""

import importlib
import json
import os
import subprocess
import sys

import pytest

from benchmarks.__main__ import MODULES
from benchmarks.check import BARS, KERAS_ALONE, Bar, other_than, verdicts
from benchmarks.figures import cases_of
from benchmarks.fit import WITHOUT_KERAS
from tests.benchmarks.test_report import FLOOR, OURS, PEER, ROOT, line, written

DALI, FFCV = "NVIDIA DALI on the CPU, 2 threads", "FFCV, 2 threads, a file of its own"
KERAS = "ceiling: tf.data of one ready batch"
LATER = {"photos, 16 workers"}  # a case of other machines


def check(*files):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.check", *map(str, files)],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def verdict(bar, *lines):
    (found,) = verdicts(cases_of(lines), [bar])
    return found


def test_a_bar_is_held_against_the_fastest_of_those_who_are_meant():
    bar = Bar("volumes", 3, "best peer that reads the same files", other_than("FFCV"))

    found = verdict(bar, line(OURS, 6400), line(PEER, 3200), line(DALI, 1600), line(FFCV, 9600), line(FLOOR, 12800))

    assert (found.other, found.ratio, found.missed) == (PEER, 2.0, True)
    assert not verdict(Bar("volumes", 2, "best peer"), line(OURS, 6400), line(PEER, 3200)).missed


@pytest.mark.parametrize(("without_keras", "other"), [(6400, WITHOUT_KERAS), (64_000, KERAS)])
def test_the_smaller_of_two_rates_can_be_the_bar(without_keras, other):
    bar = Bar("fit", 0.7, "the smaller of Keras' ceiling and ours without Keras", KERAS_ALONE, WITHOUT_KERAS)
    rates = {OURS: 3200, KERAS: 12800, WITHOUT_KERAS: without_keras}

    found = verdict(bar, *(line(arm, rate, case="fit") for arm, rate in rates.items()))

    assert (found.other, found.ratio) == (other, 3200 / min(without_keras, 12800))


def test_where_one_of_the_two_was_not_measured_nothing_is_compared():
    bar = Bar("fit", 0.7, "the smaller of Keras' ceiling and ours without Keras", KERAS_ALONE, WITHOUT_KERAS)

    assert verdict(bar, line(OURS, 3200, case="fit"), line(KERAS, 12800, case="fit")).other == ""


def test_what_was_not_measured_is_not_missed():
    for lines in ([line(OURS, 6400)], [line(OURS, 6400, case="arrays"), line(PEER, 9600, case="arrays")]):
        found = verdict(Bar("volumes", 2, "best peer"), *lines)

        assert (found.other, found.missed) == ("", False)


def test_a_bar_that_is_missed_is_named_and_the_exit_status_is_1(tmp_path):
    ran = check(written(tmp_path / "a.jsonl", line(OURS, 6400), line(PEER, 3200)))

    assert ran.returncode == 1
    assert f"missed: volumes: 2.00 x {PEER}, at least 3.00 x" in ran.stderr
    assert "MISSED" in ran.stdout and "not measured" in ran.stdout


def test_bars_that_are_reached_pass_and_files_add_up(tmp_path):
    """Lines without a case, as footprint.py writes them, are passed over."""
    fast = written(tmp_path / "a.jsonl", line(OURS, 6400), line(DALI, 1280))
    other = tmp_path / "b.jsonl"
    other.write_text(json.dumps({"benchmark": "benchmarks.footprint", "measure": "memory", "value": 96.3}) + "\n")

    ran = check(fast, other)

    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_slower_machine_misses_no_bar(tmp_path):
    assert check(written(tmp_path / "a.jsonl", line(OURS, 64), line(DALI, 64 // 4))).returncode == 0


def test_nothing_to_compare_is_an_exit_status_of_its_own(tmp_path):
    """A gate that compared nothing has not passed."""
    assert check(written(tmp_path / "a.jsonl", line(OURS, 6400, case="nobody asks"))).returncode == 2


def test_every_bar_is_about_a_case_that_is_measured():
    cases = {case.name: case for module in MODULES for case in importlib.import_module(module).CASES}

    assert {bar.case for bar in BARS} - LATER <= cases.keys()
    assert all(bar.cap in {arm.name for arm in cases[bar.case].arms} for bar in BARS if bar.cap)
