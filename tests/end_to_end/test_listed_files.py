"""Lists of files, tables, and files paired by name, through real workers: the same bytes, whatever happens to these."""

import os
import signal

import cv2
import numpy as np
import pytest

import loader_client
from loader_service import Dataset
from tests.end_to_end.conftest import digest, expected_digest
from tests.faults.watch import workers_of

SAMPLES, EPOCH = 30, 6  # batches


@pytest.fixture
def files(tmp_path):
    """Pictures 00.png .. 29.png with a mask and an array each; list.csv names them, and their labels."""
    rng = np.random.default_rng(1)
    for folder in ("pictures", "masks", "arrays"):
        (tmp_path / folder).mkdir()
    rows = ["path,mask,label,age,size"]
    for number in range(SAMPLES):
        name = f"{number:02}"
        cv2.imwrite(str(tmp_path / f"pictures/{name}.png"), rng.integers(0, 255, (20, 24, 3), dtype=np.uint8))
        cv2.imwrite(str(tmp_path / f"masks/{name}.png"), rng.integers(0, 4, (20, 24), dtype=np.uint8))
        np.save(tmp_path / f"arrays/{name}.npy", rng.random((5, 3), dtype=np.float32))
        rows.append(f"pictures/{name}.png,masks/{name}.png,{'cat' if number % 3 else 'dog'},{number},{number / 7}")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    return tmp_path


def declared(folder):
    """Return a dataset of each kind, by name."""
    pictures = [f"pictures/{number:02}.png" for number in range(SAMPLES)]
    arrays = [f"arrays/{number:02}.npy" for number in range(SAMPLES)]
    labels = {"label": np.arange(SAMPLES) % 4, "more": np.eye(SAMPLES, 5)}
    masked = {"path": {"image": "path", "mask": "mask"}, "labels": {"label": "label", "about": ["age", "size"]}}
    return {
        "pictures": Dataset.from_files(pictures, labels, root=folder).random_crop(16, 16).random_flip(),
        "arrays": Dataset.from_files(arrays, np.arange(SAMPLES), root=folder).normalize(0.5, 2, field="x"),
        "a folder": Dataset.from_files(folder / "pictures").random_resized_crop(8, 8),
        "a table": Dataset.from_table(folder / "list.csv", **masked).resize(
            8, 8, interpolation="nearest", field="mask"
        ),
        "pairs": Dataset.from_paired_files(image=folder / "pictures/*.png", y=folder / "arrays/*.npy").random_flip(),
    }


def test_every_sample_comes_once_with_the_same_bytes_for_any_number_of_workers_and_after_a_kill(files, start_daemon):
    datasets = {kind: dataset.shuffle(seed=5).batch(5) for kind, dataset in declared(files).items()}
    daemon = start_daemon("--workers", "1")
    with loader_client.connect() as loader:
        streams = {kind: loader.stream(dataset) for kind, dataset in datasets.items()}
        first = {kind: list(stream) for kind, stream in streams.items()}
        daemon.command("scale", "3")
        os.kill(workers_of(daemon.address)[0], signal.SIGKILL)
        second = {kind: list(stream) for kind, stream in streams.items()}

        for kind, dataset in datasets.items():
            assert sorted(np.concatenate([batch.ids for batch in first[kind]])) == list(range(SAMPLES)), kind
            assert digest([*first[kind], *second[kind]]) == expected_digest(dataset, range(2 * EPOCH)), kind


@pytest.mark.parametrize("kind", ["a table", "pairs"])
def test_they_are_resumed_and_cut_into_shards(files, kind):
    dataset = declared(files)[kind].shuffle(seed=5).batch(5)
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(dataset)
        stream.take(EPOCH + 2)
        resumed = loader.stream(dataset)
        resumed.load_state_dict(stream.state_dict())
        parts = [loader.stream(dataset, shard=(rank, 5)).take(2) for rank in range(5)]
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

        assert digest(resumed) == expected_digest(dataset, range(EPOCH + 3, 2 * EPOCH))
        assert digest([whole]) == expected_digest(dataset, [2])


def test_a_table_is_read_by_a_worker_and_its_classes_reach_the_client(files):
    with loader_client.connect(workers=1) as loader:
        stream = loader.stream(Dataset.from_table(files / "list.csv").batch(5))

        assert stream.class_names == ["cat", "dog"]
        assert stream.samples == SAMPLES


def test_a_damaged_file_is_replaced_and_named(files):
    (files / "pictures/07.png").write_bytes(b"no picture")
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(Dataset.from_files(files / "pictures").on_error("replace", most=0.1).batch(5))
        ids = np.concatenate([batch.ids for batch in stream])

    assert [bad.file for bad in stream.replaced] == [f"{files}/pictures/07.png"]
    assert 7 not in ids


def test_what_is_wrong_with_a_list_is_told_when_the_stream_is_opened(files):
    (files / "arrays/03.npy").unlink()
    paired = Dataset.from_paired_files(image=files / "pictures/*.png", y=files / "arrays/*.npy").batch(5)
    with loader_client.connect(workers=1) as loader:
        with pytest.raises(loader_client.DatasetError, match="1 of 30 have none for the field 'y': '03'"):
            loader.stream(paired)
