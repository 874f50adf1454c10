"""The report's rules, on a few lines written by hand; no timing is made here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.figures import cases_of, cells
from benchmarks.readme import BEGIN, END, with_figures
from benchmarks.report import page_of

ROOT = Path(__file__).parents[2]
PICTURES = ("performance.png", "scaling.png")
MARKED = f"Before.\n{BEGIN}\nold figures\n{END}\nAfter.\n"
DAYS = {"volumes": "2026-01-02", "arrays": "2026-03-04"}  # when each case was measured
OURS, PEER, FLOOR = "loader-service, 2 workers", "tf.data, one endless iterator", "floor: 2 bare processes"


def line(arm, rate, *, repeat=0, case="volumes", gap_ms=None, others_cores=0.02):
    """A repeat of 3 s in which `rate` samples a second came, in batches of 64."""
    found = {"batches": 3 * rate // 64, "samples": 3 * rate, "seconds": 3.0, "cpu_seconds": 6.0, "pss_mib": 250.0}
    found["others_cores"] = others_cores
    gap = {} if gap_ms is None else {"gap_ms": gap_ms, "longest_gap_ms": 2 * gap_ms}
    told = {"benchmark": "benchmarks.volumes", "case": case, "arm": arm, "repeat": repeat, "first_batch_seconds": 0.5}
    setting = {"date": "2026-01-02", "CPU": "A processor", "cores": "2", "numpy": "2.0.0", "command": "python -m this"}
    return {**found, **gap, **told, "unit": "samples", "nbytes": 8_000_000, "rows": 64, **setting}


def written(path, *lines):
    path.write_text("".join(json.dumps(told) + "\n" for told in lines))
    return path


def report(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.report", *arguments],
        cwd=ROOT,
        env={**os.environ, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_table_shows_medians_spreads_and_how_many_times_faster_ours_is():
    lines = [line(OURS, 640 * rate, repeat=n) for n, rate in enumerate((10, 30, 20))]
    (case,) = cases_of([line(PEER, 6400, gap_ms=12.34), *lines])
    ours, peer = case.arms

    assert (ours.name, peer.name) == (OURS, PEER)
    assert cells(case, ours) == ["12,800 (6,400..19,200)", "1.60", "0.156", "250", "0.5", "", ""]
    assert cells(case, peer) == ["6,400", "0.80", "0.312", "250", "0.5", "12.3 (24.7)", "2 x"]


def test_what_was_measured_on_several_days_says_on_which():
    days = [{**line(arm, 6400, case=case), "date": date} for case, date in DAYS.items() for arm in (OURS, PEER)]
    page, readme = page_of(days, *PICTURES, []), with_figures(MARKED, days)

    assert "Nobody here is faster than ours. Measured on 2026-01-02." in page
    assert "Nobody here is faster than ours. Measured on 2026-03-04." in page
    assert "| date | 2026-01-02 to 2026-03-04 |" in page
    assert "| volumes: 4,096 `.npy` files of 128 KiB | **6,400** |" in readme
    assert "| pictures in one mapped array, random flips ¹ | **6,400** |" in readme
    assert "on 2026-01-02 (¹ on 2026-03-04: machines differ in speed" in readme
    assert "Measured on" not in page_of(days[:2], *PICTURES, [])


def test_the_page_names_those_who_are_faster_than_ours():
    page = page_of([line(OURS, 6400), line(PEER, 3200), line(FLOOR, 12800)], *PICTURES, [])

    assert "Faster than ours: floor: 2 bare processes, 2 times." in page
    assert f"| volumes | 6,400 samples/s | {PEER}: 3,200 | 2 x |" in page
    assert "No peer is ahead of ours here." in page  # a floor is nobody's choice


def test_the_page_says_up_front_where_a_peer_is_ahead():
    page = page_of([line(OURS, 3200), line(PEER, 6400)], *PICTURES, [])

    assert f"Where we lose to a peer: volumes ({PEER})." in page


def test_the_page_says_when_on_what_with_which_versions_and_how_it_was_measured():
    page = page_of([line(OURS, 6400), line(PEER, 3200)], *PICTURES, [])

    assert "One repeat of 3 s timed" in page
    for told in ("| date | 2026-01-02 |", "| CPU | A processor |", "| numpy | 2.0.0 |", "```text\npython -m this\n```"):
        assert told in page


def test_the_page_says_whether_the_machine_was_left_alone():
    quiet = page_of([line(OURS, 6400), line(PEER, 3200)], *PICTURES, [])
    disturbed = page_of([line(OURS, 6400), line(PEER, 3200, others_cores=1.5)], *PICTURES, [])

    assert "The machine was left alone: others kept 0.02 cores busy" in quiet
    assert "**The machine was not left alone, and these figures are far off: others kept 0.76 cores busy" in disturbed


def test_the_report_writes_the_page_and_its_picture(tmp_path):
    figures = written(tmp_path / "new.jsonl", line(OURS, 6400), line(PEER, 3200), line(OURS, 640, case="packed"))

    (tmp_path / "README.md").write_text(MARKED)

    ran = report(str(figures), "--page", str(tmp_path / "page.md"), "--readme", str(tmp_path / "README.md"))

    assert ran.returncode == 0, ran.stderr
    assert "](page.png)" in (tmp_path / "page.md").read_text()
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "page-scaling.png").exists()
    assert "**6,400**" in (tmp_path / "README.md").read_text()


def test_several_files_make_one_page_and_scaling_has_a_picture_of_its_own(tmp_path):
    one = written(tmp_path / "one.jsonl", line(OURS, 6400), line(PEER, 3200))
    workers = [scaling(OURS, 640 * n, f"photos, {n} workers", n) for n in (1, 2)]
    bare = [scaling(FLOOR, 700 * n, f"photos, {n} workers", n) for n in (1, 2)]
    sizes = [scaling(f"{OURS}, {n} samples", 6400, "dataset size", n) for n in (1000, 10_000)]
    two = written(tmp_path / "two.jsonl", *workers, *bare, *sizes)
    (tmp_path / "README.md").write_text(MARKED)

    ran = report(str(one), str(two), "--page", str(tmp_path / "page.md"), "--readme", str(tmp_path / "README.md"))

    assert ran.returncode == 0, ran.stderr
    page = (tmp_path / "page.md").read_text()
    assert "](page-scaling.png)" in page and "All of these are ours" in page
    assert (tmp_path / "page-scaling.png").read_bytes().startswith(b"\x89PNG")


def scaling(arm, rate, case, at):
    return {**line(arm, rate, case=case), "benchmark": "benchmarks.scaling", "at": at}


def test_the_readme_gets_a_table_between_its_markers_and_keeps_all_else():
    lines = [line(OURS, 6400), line(PEER, 3200), line(FLOOR, 12800), line(OURS, 640, case="nobody's headline")]

    readme = with_figures(MARKED, lines)

    assert readme.startswith(f"Before.\n{BEGIN}\n") and readme.endswith(f"{END}\nAfter.\n")
    assert f"| **6,400** | 3,200 ({PEER}) | 12,800 |" in readme
    assert "*Where we lose:* nowhere in this table." in readme
    assert "on 2026-01-02, with A processor, 2 cores" in readme
    assert "old figures" not in readme and "headline" not in readme


def test_the_page_tells_what_the_service_itself_takes():
    memory = {"measure": "memory, MiB", "value": 96.3, "first": 97.6, "minutes": 60, "at_most": 200.0}
    trainer = {"measure": "thread, us", "of": "photos", "value": 44.7, "at_most": 100.0}

    page = page_of([line(OURS, 6400), line(PEER, 3200)], *PICTURES, [memory, trainer])

    assert "| memory, MiB | 96.3 (97.6 at first, 60 minutes before) | 200 |" in page
    assert "| thread, us, photos | 44.7 | 100 |" in page


def test_who_reads_files_of_its_own_is_in_the_table_and_not_the_best_peer():
    (case,) = cases_of([line(OURS, 6400), line(PEER, 3200), line("FFCV, 2 threads, a file of its own", 12800)])

    best = case.best_peer()

    assert best is not None and best.name == PEER


def test_the_readme_says_where_ours_is_behind():
    lines = [line(OURS, 3200), line(PEER, 6400), line("one process, in line", 12800)]

    readme = with_figures(MARKED, lines)

    assert f"| 3,200 | **6,400** ({PEER}) |" in readme
    assert f"to {PEER}, 2 times (volumes); to one process that does it in line, 4 times (volumes)." in readme


def test_a_readme_without_a_place_for_the_table_is_refused():
    with pytest.raises(ValueError, match="mark it, once each"):
        with_figures("No markers.\n", [line(OURS, 3200)])


def test_lines_without_figures_of_ours_are_refused():
    with pytest.raises(ValueError, match="case 'volumes' has no figures of loader-service"):
        cases_of([line(PEER, 3200)])


def test_a_ratio_that_fell_is_named_and_the_exit_status_is_1(tmp_path):
    """Ours is twice as fast as before, on a faster machine; the peer has become five times as fast."""
    old = written(tmp_path / "old.jsonl", line(OURS, 6400), line(PEER, 3200), line(FLOOR, 12800))
    new = written(tmp_path / "new.jsonl", line(OURS, 12800), line(PEER, 16000), line(FLOOR, 25600))

    ran = report(str(new), "--against", str(old))

    assert ran.returncode == 1
    assert ran.stdout == f"volumes: {OURS} was 2.00 x {PEER}, is 0.80 x: fell by 60%\n"


def test_a_slower_machine_is_no_regression(tmp_path):
    old = written(tmp_path / "old.jsonl", line(OURS, 6400), line(PEER, 3200))
    new = written(tmp_path / "new.jsonl", line(OURS, 640), line(PEER, 320))

    assert report(str(new), "--against", str(old)).returncode == 0


def test_the_tolerance_can_be_chosen(tmp_path):
    old = written(tmp_path / "old.jsonl", line(OURS, 6400), line(PEER, 3200))
    new = written(tmp_path / "new.jsonl", line(OURS, 5760), line(PEER, 3200))  # 10% less

    assert report(str(new), "--against", str(old)).returncode == 0
    assert report(str(new), "--against", str(old), "--tolerance", "0.05").returncode == 1


def test_a_peer_that_is_missing_now_is_told(tmp_path):
    old = written(tmp_path / "old.jsonl", line(OURS, 6400), line(PEER, 3200), line(FLOOR, 12800))
    new = written(tmp_path / "new.jsonl", line(OURS, 6400), line(FLOOR, 12800))

    ran = report(str(new), "--against", str(old))

    assert ran.returncode == 0
    assert f"not measured any more: volumes: {OURS} against {PEER}" in ran.stderr


def test_files_without_anything_in_common_are_an_error_of_their_own(tmp_path):
    """A gate that compared nothing has not passed."""
    old = written(tmp_path / "old.jsonl", line(OURS, 6400), line(PEER, 3200))
    new = written(tmp_path / "new.jsonl", line(OURS, 6400, case="packed"), line(PEER, 3200, case="packed"))

    assert report(str(new), "--against", str(old)).returncode == 2
