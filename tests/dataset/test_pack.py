"""Packs: the same samples as their source, to the byte; whole, or refused; gone on with after a kill."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from loader_service import Dataset
from loader_service.dataset.packing import format as layout
from loader_service.dataset.packing import part, writer
from loader_service.dataset.packing.checking import find_damage
from loader_service.dataset.packing.format import OpenPack
from loader_service.protocol.errors import DatasetError, SampleError, SpecMismatch
from tests.dataset.conftest import gradient, write_picture
from tests.limits import largest_file

ROOT = Path(__file__).parents[2]
DTYPES = ["uint8", "int16", "float16", "float32", "float64", "bool", ">f4", "complex64"]


def samples_of(dataset):
    """Return every sample as its source reads it, one by one."""
    source = dataset.declaration.source
    index = source.make_index(dataset._table)
    reader = source.reader(index, dataset._table)
    fields = frozenset(reader.model(0))
    samples = [{name: np.asarray(value) for name, value in reader.read(i, fields).items()} for i in range(len(reader))]
    return samples, [reader.describe(i) for i in range(len(reader))], source.class_names(index)


def assert_same_samples(one, other):
    """Compare fields, their order, dtypes, shapes, bytes; names, and class names."""
    (samples, names, classes), (packed, packed_names, packed_classes) = samples_of(one), samples_of(other)
    assert names == packed_names
    assert classes == packed_classes
    assert len(samples) == len(packed)
    for sample, found in zip(samples, packed, strict=True):
        assert list(sample) == list(found)
        for name, value in sample.items():
            assert (value.dtype, value.shape) == (found[name].dtype, found[name].shape)
            assert value.tobytes() == found[name].tobytes()


def assert_same_batches(one, other):
    assert one.spec == other.spec
    assert one.batches_per_epoch == other.batches_per_epoch
    for n in range(2 * one.batches_per_epoch):
        batch, found = one.compute(n), other.compute(n)
        assert list(batch) == list(found)
        for name, value in batch.items():
            assert value.tobytes() == found[name].tobytes()


@pytest.fixture
def files(tmp_path):
    """Files of every sort, seven of each."""
    rng = np.random.default_rng(0)
    for number in range(7):
        picture = gradient(12 + number, 16, number)
        write_picture(tmp_path / f"photos/{'ab'[number % 2]}/{number}.{'jpg' if number % 3 else 'png'}", picture)
        write_picture(tmp_path / f"images/{number}.jpg", picture)
        write_picture(tmp_path / f"masks/{number}.png", (picture[..., 0] // 50).astype(np.uint8))
        for folder, shape in (("volumes", (4, 3, 5)), ("ragged", (number, 2))):
            (tmp_path / folder).mkdir(exist_ok=True)
            np.save(tmp_path / folder / f"{number}.npy", rng.random(shape, dtype=np.float32))
    rows = [f"images/{number}.jpg,{'cat' if number % 2 else 'dog'},{number / 4}" for number in range(7)]
    (tmp_path / "table.csv").write_text("\n".join(["path,kind,age", *rows]))
    return tmp_path


SOURCES = {
    "pictures in class folders": lambda folder: Dataset.from_image_folder(folder / "photos"),
    "grey pictures": lambda folder: Dataset.from_image_folder(folder / "photos", color="grayscale"),
    "arrays": lambda folder: Dataset.from_npy_files(folder / "volumes"),
    "arrays with labels": lambda folder: Dataset.from_npy_files(folder / "volumes", list("2641"), [[1, 2], [3, 4]] * 2),
    "arrays of different lengths": lambda folder: Dataset.from_npy_files(folder / "ragged"),
    "a list": lambda folder: Dataset.from_files(["images/3.jpg", "images/1.jpg"], ["x", "y"], root=folder),
    "a pattern": lambda folder: Dataset.from_files(folder / "images/*.jpg"),
    "a table": lambda folder: Dataset.from_table(folder / "table.csv", labels={"label": "kind", "age": "age"}),
    "pictures with masks and arrays": lambda folder: Dataset.from_paired_files(
        image=folder / "images/*.jpg", mask=folder / "masks/*.png", x=folder / "volumes/*.npy"
    ),
}


@pytest.fixture(params=SOURCES)
def dataset(request, files):
    """One of every source that is packed."""
    return SOURCES[request.param](files)


@pytest.fixture
def pack(files):
    """A pack of seven arrays, and its path."""
    path = files / "volumes.pack"
    Dataset.from_npy_files(files / "volumes").pack(path)
    return path


# -- the same samples -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("decode", [False, True], ids=["kept", "decoded"])
def test_a_pack_has_the_samples_names_and_labels_of_its_source(dataset, tmp_path, decode):
    packed = dataset.pack(tmp_path / "all.pack", decode=decode)

    assert_same_samples(dataset, Dataset.from_pack(tmp_path / "all.pack"))
    assert packed.nbytes == (tmp_path / "all.pack").stat().st_size
    assert find_damage(str(tmp_path / "all.pack")) == []
    assert sorted(path.name for path in tmp_path.glob("all.pack*")) == ["all.pack"]


@pytest.mark.parametrize("decode", [False, True], ids=["kept", "decoded"])
def test_batches_of_a_pack_are_those_of_its_source(files, decode):
    pictures = Dataset.from_image_folder(files / "photos")
    volumes = Dataset.from_npy_files(files / "volumes", labels=np.arange(7))
    pictures.pack(files / "p.pack", decode=decode)
    volumes.pack(files / "v.pack", decode=decode)

    for one, other in ((pictures, "p.pack"), (volumes, "v.pack")):
        both = [one, Dataset.from_pack(files / other)]
        if one is pictures:
            both = [each.random_resized_crop(8, 8).random_flip() for each in both]
        else:
            both = [each.rescale(0.5, field="x").split(0.3, stratify=None)[0] for each in both]
        assert_same_batches(*(each.shuffle(seed=3).batch(2) for each in both))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_arrays_there_are_comes_out_as_it_went_in(tmp_path_factory, data):
    """Of any shape and dtype, in any order of axes and bytes, alike or not."""
    folder = tmp_path_factory.mktemp("any")
    one = arrays(
        st.sampled_from(DTYPES).map(np.dtype), array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), fill=None
    )
    given_arrays = data.draw(
        st.one_of(st.lists(one, min_size=1, max_size=5), one.map(lambda array: [array] * 3)), label="arrays"
    )
    fortran = data.draw(st.lists(st.booleans(), min_size=len(given_arrays), max_size=len(given_arrays)))
    for number, (array, is_fortran) in enumerate(zip(given_arrays, fortran, strict=True)):
        np.save(folder / f"{number}.npy", np.asfortranarray(array) if is_fortran and array.ndim else array)
    dataset = Dataset.from_npy_files(folder)

    for decode in (False, True):
        dataset.pack(folder / "any.pack", decode=decode, force=True)
        assert_same_samples(dataset, Dataset.from_pack(folder / "any.pack"))
        assert find_damage(str(folder / "any.pack")) == []


def test_samples_that_are_alike_are_one_array_and_are_read_many_at_once(pack, files):
    source = Dataset.from_pack(pack).declaration.source
    reader = source.reader(source.make_index(None), None)

    assert reader.columns == {"x"}
    assert find_rows(pack).shape == (7, 4, 3, 5)
    Dataset.from_npy_files(files / "ragged").pack(files / "ragged.pack")
    ragged = Dataset.from_pack(files / "ragged.pack").declaration.source
    assert ragged.reader(ragged.make_index(None), None).columns == frozenset()


def find_rows(path):
    """Return the array that a pack of arrays is, as anybody could map it who has read how packs are laid out."""
    records = OpenPack(str(path)).records(0)
    return np.memmap(path, "<f4", "r", int(records["offset"][0]), (7, 4, 3, 5))


def test_what_is_kept_are_the_bytes_of_the_files(files):
    dataset = Dataset.from_image_folder(files / "photos")
    dataset.pack(files / "p.pack")
    opened = OpenPack(str(files / "p.pack"))
    records = opened.records(0)

    for sample, (offset, nbytes) in enumerate(zip(records["offset"], records["nbytes"], strict=True)):
        assert bytes(opened.memory[offset : offset + nbytes]) == Path(opened.name(sample)).read_bytes()
        assert offset % layout.ALIGNMENT == 0
    volumes = Dataset.from_npy_files(files / "volumes")
    volumes.pack(files / "v.pack")
    (form,) = OpenPack(str(files / "v.pack")).description.fields[0].forms
    body = np.asarray(find_rows(files / "v.pack")[2]).tobytes()
    assert form.header + body == (files / "volumes/2.npy").read_bytes()


def test_each_field_and_the_index_begin_at_a_page(files):
    SOURCES["pictures with masks and arrays"](files).pack(files / "all.pack")
    opened = OpenPack(str(files / "all.pack"))

    assert [int(opened.records(number)["offset"][0]) % layout.PAGE for number in range(3)] == [0, 0, 0]
    assert opened.index_offset % layout.PAGE == 0


def test_names_that_are_no_utf8_are_kept(tmp_path):
    odd = os.fsencode(tmp_path) + b"/\xff\xfe.png"
    write_picture(tmp_path / "0.png", gradient(4, 4))
    os.link(tmp_path / "0.png", odd)
    dataset = Dataset.from_files([tmp_path / "0.png", os.fsdecode(odd)], ["é", "ü"])
    dataset.pack(tmp_path / "p.pack")

    assert_same_samples(dataset, Dataset.from_pack(tmp_path / "p.pack"))


def test_the_key_is_that_of_the_content(files, pack):
    key = Dataset.from_pack(pack).batch(2).key
    assert Dataset.from_pack(pack).batch(2).key == key

    np.save(files / "volumes/3.npy", np.zeros((4, 3, 5), np.float32))
    Dataset.from_npy_files(files / "volumes").pack(pack, force=True)

    assert Dataset.from_pack(pack).batch(2).key != key


def test_a_pack_is_of_the_same_bytes_each_time(files, dataset):
    for name in "ab":
        dataset.pack(files / f"{name}.pack")

    assert (files / "a.pack").read_bytes() == (files / "b.pack").read_bytes()


def test_a_damaged_file_is_kept_as_it_is_and_named_when_it_is_read_as_its_source_does(files):
    broken = files / "photos/a/2.jpg"
    broken.write_bytes(broken.read_bytes()[:150])
    (files / "volumes/4.npy").write_bytes((files / "volumes/4.npy").read_bytes()[:-8])
    (files / "volumes/5.npy").write_bytes(b"no array")
    for dataset, bad in (
        (Dataset.from_image_folder(files / "photos").resize(4, 4), [1]),
        (Dataset.from_npy_files(files / "volumes"), [4, 5]),
    ):
        dataset.pack(files / "broken.pack", force=True)
        packed = Dataset.from_pack(files / "broken.pack").resize(4, 4)
        packed = packed if bad == [1] else Dataset.from_pack(files / "broken.pack")
        for n in range(7):
            if n in bad:
                with pytest.raises(SampleError, match=f"sample {n} "):
                    packed.batch(1).compute(n)
                with pytest.raises(SampleError, match=f"sample {n} "):
                    dataset.batch(1).compute(n)
            else:
                assert packed.batch(1).compute(n).keys() == dataset.batch(1).compute(n).keys()


def test_arrays_that_are_not_alike_are_refused_as_their_source_does(files):
    np.save(files / "volumes/4.npy", np.zeros((2, 3, 5), np.float32))
    dataset = Dataset.from_npy_files(files / "volumes")
    dataset.pack(files / "odd.pack")

    for each in (dataset, Dataset.from_pack(files / "odd.pack")):
        with pytest.raises(SpecMismatch, match="sample 4 "):
            each.batch(7).compute(0)


def test_a_damaged_file_cannot_be_decoded_and_is_named(files):
    (files / "photos/a/2.jpg").write_bytes(b"")

    with pytest.raises(DatasetError, match=r"2\.jpg\): the file is empty\. Take it out of the source"):
        Dataset.from_image_folder(files / "photos").pack(files / "p.pack", decode=True)


# -- what is no whole pack ------------------------------------------------------------------------------------


def changed(path, change):
    content = bytearray(path.read_bytes())
    path.write_bytes(bytes(change(content) or content))
    return path


def put(offset, value):
    def change(content):
        content[offset] = value

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda content: content[:-1], "was cut off: it has"),
        (lambda content: content[: len(content) // 2], "was cut off: it has"),
        (lambda content: content[:20], "ends within its head"),
        (lambda content: content[:3], "is no pack"),
        (lambda content: b"\0" + content, "is no pack"),
        (lambda content: bytes(len(content)), "is not finished"),
        (lambda content: content + b"\n", "was appended to"),
        (put(8, 2), "is of version 2, and this loader-service reads version 1"),
        (put(20, 99), "its head is not what it was written as"),
        (put(-1, 99), "its index is not what it was written as"),
    ],
)
def test_what_is_no_whole_pack_is_refused_in_a_sentence(pack, change, told):
    changed(pack, change)

    for attempt in (lambda: Dataset.from_pack(pack).batch(2).compute(0), lambda: find_damage(str(pack))):
        with pytest.raises(DatasetError, match=told):
            attempt()


@pytest.mark.parametrize(
    ("path", "told"), [("nowhere.pack", "does not exist"), ("volumes", "is a folder"), ("empty.pack", "is no pack")]
)
def test_what_is_no_file_of_ours_is_refused_in_a_sentence(files, path, told):
    (files / "empty.pack").touch()

    with pytest.raises(DatasetError, match=told):
        Dataset.from_pack(files / path).batch(2).compute(0)


def test_every_byte_that_is_flipped_is_found(tmp_path):
    """Not one place of a pack may change unseen: head, records, gaps, index."""
    for number in range(3):
        write_picture(tmp_path / f"{number}.png", gradient(4, 4, number))
    path = tmp_path / "p.pack"
    Dataset.from_files(tmp_path / "*.png").pack(path)
    whole = path.read_bytes()
    begin = OpenPack(str(path)).index_offset
    places = {*range(80), *range(4000, 4700), *range(begin - 100, len(whole))}

    for place in sorted(places):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            found = find_damage(str(path))
        except DatasetError:
            found = ["refused"]
        assert found, place


@pytest.mark.parametrize("which", ["volumes", "images"])
def test_a_flipped_byte_is_named_by_verify_and_at_the_first_reading(files, which):
    Dataset.from_paired_files(image=files / "images/*.jpg", x=files / "volumes/*.npy").pack(files / "all.pack")
    number = 1 if which == "volumes" else 0
    records = OpenPack(str(files / "all.pack")).records(number)
    place = int(records["offset"][3] + records["nbytes"][3] // 2)
    changed(files / "all.pack", lambda content: put(place, content[place] ^ 1)(content))

    (damage,) = find_damage(str(files / "all.pack"))
    assert (damage.sample, damage.file) == (3, f"{files}/images/3.jpg")
    assert damage.field == ("x" if number else "image")
    broken = Dataset.from_pack(files / "all.pack").resize(4, 4)
    assert len(broken.batch(3).compute(0)["x"]) == 3
    with pytest.raises(SampleError, match=r"sample 3 .*3\.jpg\): its bytes in the pack .* are damaged"):
        broken.batch(4).compute(0)
    replaced = broken.on_error("replace", most=0.5).batch(7).plan.compute(0)
    assert 3 not in replaced["ids"]


def test_a_pack_that_was_replaced_under_a_dataset_is_refused_by_those_who_open_it_later(files, pack):
    source = Dataset.from_pack(pack).declaration.source
    index = source.make_index(None)
    Dataset.from_npy_files(files / "ragged").pack(pack, force=True)

    with pytest.raises(DatasetError, match="was replaced since the dataset was opened"):
        source.reader(index, None)


# -- what is not packed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "told"),
    [
        (lambda: Dataset.from_arrays(x=np.zeros((3, 2))), "arrays: .* are mapped already"),
        (lambda: Dataset.from_generator(samples_of, samples=3), "generator: .* its samples are live"),
        (lambda: Dataset.from_python("tests.end_to_end.kinds:Sentences"), "python: .* made by your code"),
        (lambda: Dataset.from_pack("some.pack"), "pack: .* it is one already"),
        (lambda: Dataset.concat(*[Dataset.from_arrays(x=np.zeros(3))] * 2), "concat: .* pack each of them"),
    ],
)
def test_a_source_that_is_no_files_is_refused_with_the_reason(tmp_path, dataset, told):
    with pytest.raises(DatasetError, match=told):
        dataset().pack(tmp_path / "no.pack")

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_replaced_by_force_only(files, pack):
    dataset = Dataset.from_npy_files(files / "ragged")
    before = pack.read_bytes()

    with pytest.raises(DatasetError, match=r"volumes\.pack' exists: --force replaces it"):
        dataset.pack(pack)

    assert pack.read_bytes() == before
    dataset.pack(pack, force=True)
    assert_same_samples(dataset, Dataset.from_pack(pack))


def test_a_folder_that_is_not_there_is_told(files):
    with pytest.raises(DatasetError, match=r"nowhere/v\.pack' cannot be written: No such file or directory"):
        Dataset.from_npy_files(files / "volumes").pack(files / "nowhere/v.pack")


# -- interrupted ----------------------------------------------------------------------------------------------

KILLED_AT = """
import os, signal, sys
from loader_service import Dataset
from loader_service.dataset.packing import part, writer
writer.CHUNK_FILES, part.CHECKPOINT_BYTES = 1, 1
folder, calls, left = sys.argv[1], sys.argv[2].split(","), int(sys.argv[3])

def dying(call):
    def counted(*arguments):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments)
    return counted

for call in calls:
    setattr(os, call, dying(getattr(os, call)))
Dataset.from_paired_files(image=f"{folder}/images/*.jpg", x=f"{folder}/volumes/*.npy").pack(f"{folder}/all.pack")
"""


def killed(folder, calls, left):
    """Pack in a process of its own, which is killed instead of a call of the system."""
    ran = subprocess.run([sys.executable, "-c", KILLED_AT, str(folder), calls, str(left)], cwd=ROOT, check=False)
    return ran.returncode == -signal.SIGKILL


def test_killed_anywhere_and_started_again_it_becomes_the_pack_that_an_undisturbed_one_is(files):
    dataset = Dataset.from_paired_files(image=files / "images/*.jpg", x=files / "volumes/*.npy")
    fresh = files / "fresh.pack"
    dataset.pack(fresh)
    kills = 0
    for left in (3, 9, 17):
        kills += killed(files, "pwrite,fdatasync,write", left)
        assert not (files / "all.pack").exists()
        with pytest.raises(DatasetError):
            OpenPack(str(files / "all.pack.part"))

    packed = dataset.pack(files / "all.pack")

    assert kills == 3
    assert packed.resumed > 0
    assert (files / "all.pack").read_bytes() == fresh.read_bytes()
    assert sorted(path.name for path in files.glob("all.pack*")) == ["all.pack"]


class Died(BaseException):
    pass


def test_whichever_call_of_the_system_is_its_last_it_becomes_the_same_pack(files, monkeypatch):
    """As if it were killed there: nothing is tidied up behind an error."""
    monkeypatch.setattr(writer, "CHUNK_FILES", 2)
    monkeypatch.setattr(part, "CHECKPOINT_BYTES", 1)
    dataset = Dataset.from_paired_files(image=files / "images/*.jpg", x=files / "volumes/*.npy")
    dataset.pack(files / "fresh.pack")
    died = 0
    for last in range(60):
        left = last

        def dying(call):
            def counted(*arguments):
                nonlocal left
                left -= 1
                if left < 0:
                    raise Died
                return call(*arguments)

            return counted

        with monkeypatch.context() as patched:
            for call in ("pwrite", "write", "fdatasync", "fsync", "ftruncate"):
                patched.setattr(os, call, dying(getattr(os, call)))
            try:
                dataset.pack(files / "all.pack")
            except Died:
                died += 1
        dataset.pack(files / "all.pack", force=(files / "all.pack").exists())
        assert (files / "all.pack").read_bytes() == (files / "fresh.pack").read_bytes()
        (files / "all.pack").unlink()
        assert not list(files.glob("all.pack*"))

    assert 30 < died < 60


def test_killed_when_all_but_the_name_is_there_it_is_done_again(files):
    dataset = Dataset.from_paired_files(image=files / "images/*.jpg", x=files / "volumes/*.npy")
    dataset.pack(files / "fresh.pack")

    assert killed(files, "fsync", 1)
    assert not (files / "all.pack").exists()
    assert dataset.pack(files / "all.pack").resumed == 14
    assert (files / "all.pack").read_bytes() == (files / "fresh.pack").read_bytes()


class Interrupted(Exception):
    pass


@pytest.fixture
def interrupted(files, monkeypatch):
    """A function that packs the volumes, and is interrupted after three of them."""
    monkeypatch.setattr(writer, "CHUNK_FILES", 1)
    monkeypatch.setattr(part, "CHECKPOINT_BYTES", 1)

    def stop(done, total):
        if done == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        Dataset.from_npy_files(files / "volumes").pack(files / "v.pack", told=stop)
    return files


def test_what_was_written_is_not_read_again(interrupted):
    told = []

    packed = Dataset.from_npy_files(interrupted / "volumes").pack(
        interrupted / "v.pack", told=lambda done, total: told.append((done, total))
    )

    assert (packed.resumed, packed.files) == (3, 7)
    assert told == [(done, 14) for done in (3, 4, 5, 6, 7, 14)]


def change_one(folder):
    np.save(folder / "volumes/1.npy", np.ones((4, 3, 5), np.float32))


def add_one(folder):
    np.save(folder / "volumes/35.npy", np.ones((4, 3, 5), np.float32))


def remove_one(folder):
    (folder / "volumes/6.npy").unlink()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (change_one, r"volumes/1\.npy' is other than it was"),
        (add_one, r"volumes/35\.npy' is new"),
        (remove_one, r"volumes/6\.npy' is gone"),
    ],
)
def test_a_source_that_has_changed_in_between_is_refused_by_name(interrupted, change, told):
    change(interrupted)
    dataset = Dataset.from_npy_files(interrupted / "volumes")

    with pytest.raises(DatasetError, match=told):
        dataset.pack(interrupted / "v.pack")

    assert dataset.pack(interrupted / "v.pack", force=True).resumed == 0
    assert_same_samples(dataset, Dataset.from_pack(interrupted / "v.pack"))


def test_other_options_and_other_sources_are_not_gone_on_with(interrupted):
    with pytest.raises(DatasetError, match="begun with the opposite of --decode"):
        Dataset.from_npy_files(interrupted / "volumes").pack(interrupted / "v.pack", decode=True)
    with pytest.raises(DatasetError, match="begun with another source"):
        Dataset.from_npy_files(interrupted / "ragged").pack(interrupted / "v.pack")


def test_a_part_or_a_journal_that_is_cut_off_is_begun_anew_where_it_ends(interrupted):
    dataset = Dataset.from_npy_files(interrupted / "volumes")
    journal = interrupted / "v.pack.part.journal"
    journal.write_bytes(journal.read_bytes()[:-5])

    assert dataset.pack(interrupted / "v.pack").resumed == 2
    assert_same_samples(dataset, Dataset.from_pack(interrupted / "v.pack"))


def test_a_part_that_somebody_has_cut_off_is_begun_anew(interrupted):
    os.truncate(interrupted / "v.pack.part", 4200)
    dataset = Dataset.from_npy_files(interrupted / "volumes")

    assert dataset.pack(interrupted / "v.pack").resumed == 0
    assert_same_samples(dataset, Dataset.from_pack(interrupted / "v.pack"))


def test_a_part_that_was_damaged_in_between_never_becomes_a_pack(interrupted):
    changed(interrupted / "v.pack.part", put(layout.PAGE + 300, 77))
    dataset = Dataset.from_npy_files(interrupted / "volumes")

    with pytest.raises(DatasetError, match=r"is not what was written: sample 1 .*, x: its 240 bytes are damaged"):
        dataset.pack(interrupted / "v.pack")

    assert not (interrupted / "v.pack").exists()
    assert dataset.pack(interrupted / "v.pack").resumed == 0
    assert_same_samples(dataset, Dataset.from_pack(interrupted / "v.pack"))


def test_two_at_once_are_one_too_many(files, monkeypatch):
    dataset = Dataset.from_npy_files(files / "volumes")
    told = []

    def again(done, total):
        if not told:
            told.append(done)
            with pytest.raises(DatasetError, match=r"another process is packing into .*v\.pack"):
                dataset.pack(files / "v.pack")

    dataset.pack(files / "v.pack", told=again)

    assert_same_samples(dataset, Dataset.from_pack(files / "v.pack"))


def test_a_full_disk_is_told_and_gone_on_from(files, monkeypatch):
    monkeypatch.setattr(writer, "CHUNK_FILES", 1)
    monkeypatch.setattr(part, "CHECKPOINT_BYTES", 1)
    dataset = Dataset.from_npy_files(files / "volumes")
    told = pytest.raises(DatasetError, match=r"cannot be written: File too large\. 3 of 7 files are safe in it")
    with largest_file(layout.PAGE + 3 * 240 + 100), told:
        dataset.pack(files / "v.pack")

    assert dataset.pack(files / "v.pack").resumed == 3
    assert_same_samples(dataset, Dataset.from_pack(files / "v.pack"))


def test_a_file_that_cannot_be_read_is_named(files, monkeypatch):
    dataset = Dataset.from_npy_files(files / "volumes")
    gone = files / "volumes/3.npy"
    (files / "elsewhere.npy").write_bytes(gone.read_bytes())
    gone.unlink()
    gone.symlink_to(files / "elsewhere.npy")
    dataset.declaration.source.make_index(dataset._table)
    monkeypatch.setattr("loader_service.dataset.packing.records.open", refuse("3.npy"), raising=False)

    with pytest.raises(DatasetError, match=r"sample 3 \(.*3\.npy\) cannot be read: Input/output error"):
        dataset.pack(files / "v.pack")


def refuse(name):
    """Return an `open` that fails for one file, as a bad disk does."""

    def opened(path, *arguments, **options):
        if os.fsdecode(path).endswith(name):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return open(path, *arguments, **options)

    return opened


def test_a_picture_is_decoded_from_where_it_lies():
    """A view, not a copy: decoders take any buffer."""
    from loader_service.dataset.sources.decoding import decode_image
    from loader_service.dataset.sources.mask import decode_mask

    for suffix in (".jpg", ".png", ".bmp"):
        encoded = cv2.imencode(suffix, gradient(8, 8))[1].tobytes()
        view = memoryview(encoded).toreadonly()
        assert np.array_equal(decode_image(encoded, "rgb"), decode_image(view, "rgb"))
        grey = cv2.imencode(suffix, gradient(8, 8)[..., 0])[1].tobytes()
        assert np.array_equal(decode_mask(grey), decode_mask(memoryview(grey)))
