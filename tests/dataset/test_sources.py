import io
import os

import cv2
import numpy as np
import pytest
from numpy.lib import format as npy_format

from loader_service import Dataset
from loader_service.protocol.errors import DatasetError, SampleError, SpecMismatch
from loader_service.protocol.spec import FieldSpec
from tests.dataset.conftest import gradient, write_picture


def everything(dataset):
    """Return all samples of a dataset as one batch."""
    plan = dataset.batch(1).plan
    return dataset.batch(plan.samples).compute(0)


# -- image_folder -------------------------------------------------------------------------------------------


def test_classes_are_the_sorted_names_of_the_sub_folders(photos):
    dataset = Dataset.from_image_folder(photos).resize(4, 4).batch(7)

    assert dataset.class_names == ["cats", "dogs"]
    assert dataset.compute(0)["label"].tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert dataset.spec == {"image": FieldSpec((4, 4, 3), "uint8"), "label": FieldSpec((), "int64")}


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tiff", ".ppm", ".PNG"])
def test_pictures_are_read_as_rgb(tmp_path, suffix):
    """OpenCV says blue first; a network trained so is wrong everywhere else."""
    picture = gradient(24, 32)
    write_picture(tmp_path / f"a/one{suffix}", picture)

    image = everything(Dataset.from_image_folder(tmp_path))["image"]

    assert np.array_equal(image[0], picture)


def test_a_jpeg_is_read_as_rgb(tmp_path):
    picture = gradient(24, 32)
    write_picture(tmp_path / "a/one.jpg", picture)

    image = everything(Dataset.from_image_folder(tmp_path))["image"]

    assert image.shape == (1, 24, 32, 3)
    assert np.abs(image[0].astype(int) - picture).mean() < 4


@pytest.mark.parametrize("name", ["grey.png", "grey.jpg"])
def test_a_grey_picture_among_coloured_ones_has_three_equal_channels(tmp_path, name):
    write_picture(tmp_path / f"a/{name}", gradient(24, 32)[..., 0])

    image = everything(Dataset.from_image_folder(tmp_path))["image"][0]

    assert image.shape == (24, 32, 3)
    assert np.array_equal(image[..., 0], image[..., 1])
    assert np.abs(image[..., 2].astype(int) - gradient(24, 32)[..., 0]).mean() < 3


@pytest.mark.parametrize("name", ["one.png", "one.jpg"])
def test_pictures_can_be_read_as_grey(tmp_path, name):
    picture = gradient(24, 32)
    write_picture(tmp_path / f"a/{name}", picture)

    image = everything(Dataset.from_image_folder(tmp_path, color="grayscale"))["image"][0]

    assert image.shape == (24, 32, 1)
    assert np.abs(image[..., 0].astype(int) - picture @ [0.299, 0.587, 0.114]).mean() < 3


def test_transparency_and_16_bits_are_dropped(tmp_path):
    (tmp_path / "a").mkdir()
    with_alpha = np.dstack([gradient(8, 9)[..., ::-1], np.full((8, 9), 7, np.uint8)])
    cv2.imwrite(str(tmp_path / "a/1.png"), with_alpha)
    cv2.imwrite(str(tmp_path / "a/2.png"), gradient(8, 9)[..., ::-1].astype(np.uint16) * 256)

    image = everything(Dataset.from_image_folder(tmp_path))["image"]

    assert np.array_equal(image[0], gradient(8, 9))
    assert np.array_equal(image[1], gradient(8, 9))


def test_pictures_of_1_pixel_are_pictures(tmp_path):
    write_picture(tmp_path / "a/1.png", np.array([[[1, 2, 3]]], np.uint8))
    write_picture(tmp_path / "a/2.jpg", np.array([[[200, 200, 200]]], np.uint8))

    image = everything(Dataset.from_image_folder(tmp_path))["image"]

    assert image.shape == (2, 1, 1, 3)
    assert image[0].ravel().tolist() == [1, 2, 3]


def test_hidden_files_other_files_and_files_beside_the_classes_are_ignored(tmp_path):
    for name in ("a/one.png", "a/.hidden.png", "a/._one.png", ".git/two.png", "a/.deep/three.png", "beside.png"):
        write_picture(tmp_path / name, gradient(4, 4))
    (tmp_path / "a/notes.txt").write_text("no picture")

    dataset = Dataset.from_image_folder(tmp_path).batch(1)

    assert dataset.samples == 1
    assert dataset.class_names == ["a"]


def test_nested_pictures_have_the_label_of_their_class_and_stand_in_the_order_of_their_paths(tmp_path):
    for number, name in enumerate(["a/z.png", "a/b/y.png", "a/b/c/x.png", "b/w.png"]):
        write_picture(tmp_path / name, np.full((2, 2, 3), number, np.uint8))

    batch = everything(Dataset.from_image_folder(tmp_path))

    assert batch["image"][:, 0, 0, 0].tolist() == [2, 1, 0, 3]
    assert batch["label"].tolist() == [0, 0, 0, 1]


def test_a_class_without_pictures_keeps_its_number(tmp_path):
    write_picture(tmp_path / "b/one.png", gradient(4, 4))
    (tmp_path / "a").mkdir()

    dataset = Dataset.from_image_folder(tmp_path).batch(1)

    assert dataset.class_names == ["a", "b"]
    assert dataset.compute(0)["label"].tolist() == [1]


def test_file_names_need_not_be_utf_8(tmp_path):
    encoded = cv2.imencode(".png", gradient(4, 4))[1].tobytes()
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)  # noqa: PTH102
    for name in (b"/1.png", b"/\xff\xfe.png"):
        with open(folder + name, "wb") as file:
            file.write(encoded)

    dataset = Dataset.from_image_folder(tmp_path).batch(2)

    assert dataset.class_names == ["caf\N{REPLACEMENT CHARACTER}"]
    assert dataset.compute(0)["image"].shape == (2, 4, 4, 3)


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(DatasetError, match=f"folder '{tmp_path}/no' does not exist"):
        everything(Dataset.from_image_folder(tmp_path / "no"))


def test_a_file_in_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(DatasetError, match=f"'{tmp_path}/file' is no folder"):
        everything(Dataset.from_image_folder(tmp_path / "file"))


def test_an_empty_folder_says_what_was_expected(tmp_path):
    with pytest.raises(DatasetError, match="is empty: expected a sub-folder of pictures for each class"):
        everything(Dataset.from_image_folder(tmp_path))


def test_a_folder_without_sub_folders_says_what_was_expected(tmp_path):
    write_picture(tmp_path / "one.png", gradient(4, 4))

    with pytest.raises(DatasetError, match="has no sub-folders: expected a sub-folder of pictures for each class"):
        everything(Dataset.from_image_folder(tmp_path))


def test_sub_folders_without_pictures_say_what_is_read(tmp_path):
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats/notes.txt").touch()

    with pytest.raises(
        DatasetError, match=r"holds no pictures in its class sub-folders \(cats\); files ending in .jpg"
    ):
        everything(Dataset.from_image_folder(tmp_path))


def damaged(suffix, share):
    """Return the first `share` of a picture's bytes."""
    encoded = cv2.imencode(suffix, gradient(64, 64))[1].tobytes()
    return encoded[: int(len(encoded) * share)]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "name, content, told",
    [
        ("x.png", b"no picture at all", "its 17 bytes are no picture that can be decoded"),
        ("x.jpg", b"no picture at all", "its 17 bytes are no picture that can be decoded"),
        ("x.jpg", b"", "the file is empty"),
        ("x.png", b"", "the file is empty"),
        ("x.jpg", damaged(".jpg", 0.6), "the JPEG is damaged: Premature end of JPEG file"),
        ("x.jpg", damaged(".jpg", 0.02), "the JPEG is damaged"),
        ("x.jpg", b"\xff\xd8\xff", "the JPEG is damaged"),
        ("x.png", damaged(".png", 0.7), "bytes are no picture that can be decoded"),
        ("x.bmp", damaged(".bmp", 0.7), "bytes are no picture that can be decoded"),
        ("x.webp", damaged(".webp", 0.7), "bytes are no picture that can be decoded"),
    ],
)
def test_a_damaged_picture_is_refused_by_name(tmp_path, capfd, name, content, told, first):
    """Half a picture would train without a word. The first one sets the spec: it is read at another place."""
    write_picture(tmp_path / f"{'z' if first else 'a'}/good.png", gradient(64, 64))
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / name).write_bytes(content)

    with pytest.raises(DatasetError, match=f"{tmp_path}/m/{name}.*{told}"):
        everything(Dataset.from_image_folder(tmp_path))


def test_a_picture_of_another_size_is_refused_by_name_with_what_to_add(tmp_path):
    write_picture(tmp_path / "a/1.png", gradient(8, 9))
    write_picture(tmp_path / "a/2.png", gradient(8, 7))

    with pytest.raises(
        SpecMismatch,
        match=r"sample 1 \(.*a/2.png\): field 'image' is uint8 \(8, 7, 3\), declared uint8 \(8, 9, 3\)."
        r" Pictures differ in size: add .resize\(height, width\) or a crop.",
    ):
        everything(Dataset.from_image_folder(tmp_path))


def test_a_picture_that_vanished_is_named(tmp_path):
    for name in ("a/1.png", "a/2.png"):
        write_picture(tmp_path / name, gradient(8, 9))
    dataset = Dataset.from_image_folder(tmp_path).batch(2)
    assert dataset.samples == 2
    (tmp_path / "a/2.png").unlink()

    with pytest.raises(SampleError, match=r"sample 1 \(.*a/2.png\): FileNotFoundError"):
        dataset.compute(0)


# -- npy_files ----------------------------------------------------------------------------------------------


def test_ids_default_to_the_sorted_file_names(npy_folder, tmp_path):
    for name in ("b.npy", "a.npy", ".hidden.npy", "._a.npy"):
        np.save(tmp_path / name, np.array([ord(name[0])]))
    (tmp_path / "notes.txt").touch()

    batch = everything(Dataset.from_npy_files(tmp_path))

    assert batch["x"].ravel().tolist() == [ord("a"), ord("b")]
    assert list(batch) == ["x"]


def test_ids_choose_files_and_their_order(npy_folder):
    batch = everything(Dataset.from_npy_files(npy_folder, ids=["7", "0", "3"]))

    assert batch["x"][:, 0, 0].tolist() == [70, 0, 30]


def test_ids_may_be_numbers_and_lie_in_sub_folders(npy_folder, tmp_path):
    (tmp_path / "deep").mkdir()
    np.save(tmp_path / "deep/1.npy", np.array([5]))

    assert everything(Dataset.from_npy_files(npy_folder, ids=[3, 1]))["x"][:, 0, 0].tolist() == [30, 10]
    assert everything(Dataset.from_npy_files(tmp_path, ids=["deep/1"]))["x"].tolist() == [[5]]


def test_labels_may_be_a_dict_as_in_the_best_known_keras_generator(npy_folder):
    labels = {str(number): number % 3 for number in range(10)} | {"not used": 99}

    batch = everything(Dataset.from_npy_files(npy_folder, ids=["4", "2"], labels=labels))

    assert batch["label"].tolist() == [1, 2]
    assert batch["label"].dtype == np.int64


def test_labels_of_all_files_may_be_a_dict(npy_folder):
    batch = everything(Dataset.from_npy_files(npy_folder, labels={str(number): -number for number in range(10)}))

    assert batch["label"].tolist() == [-number for number in range(10)]


def test_labels_may_be_vectors(npy_folder):
    labels = np.arange(20, dtype=np.float32).reshape(10, 2)

    dataset = Dataset.from_npy_files(npy_folder, labels=labels).batch(10)

    assert dataset.spec["label"] == FieldSpec((2,), "float32")
    assert np.array_equal(dataset.compute(0)["label"], labels)


def test_labels_may_be_big_endian(npy_folder):
    batch = everything(Dataset.from_npy_files(npy_folder, labels=np.arange(10, dtype=">i4")))

    assert batch["label"].tolist() == list(range(10))


def npy_bytes(array, version):
    file = io.BytesIO()
    npy_format.write_array(file, array, version=version)
    return file.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "<f4", ">f4", ">i8", "bool", "complex64"])
@pytest.mark.parametrize("fortran", [False, True])
def test_every_kind_of_npy_file_is_read_as_numpy_reads_it(tmp_path, version, dtype, fortran):
    arrays = [np.arange(24).reshape(2, 3, 4) + number for number in range(3)]
    for number, array in enumerate(arrays):
        array = np.asarray(array, dtype, order="F" if fortran else "C")
        (tmp_path / f"{number}.npy").write_bytes(npy_bytes(array, version))

    dataset = Dataset.from_npy_files(tmp_path).batch(3)
    x = dataset.compute(0)["x"]

    assert dataset.spec["x"] == FieldSpec((2, 3, 4), np.dtype(dtype).name)
    assert np.array_equal(x, np.stack(arrays).astype(x.dtype))
    assert x.flags.c_contiguous


def test_files_of_several_versions_and_orders_may_lie_side_by_side(tmp_path):
    """Folders grow over years, and NumPy has changed how it pads headers; the numbers are what counts."""
    array = np.arange(6.0).reshape(2, 3)
    old = b"\x93NUMPY\x01\x00" + (70).to_bytes(2, "little")
    old += b"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }".ljust(69) + b"\n" + array.tobytes()
    contents = [npy_bytes(array, (1, 0)), old, npy_bytes(np.asfortranarray(array), (1, 0))]
    contents += [npy_bytes(array.astype(">f8"), (2, 0)), npy_bytes(array, (1, 0))]

    for first in range(len(contents)):
        for number, content in enumerate(contents[first:] + contents[:first]):
            (tmp_path / f"{number}.npy").write_bytes(content)
        assert np.array_equal(everything(Dataset.from_npy_files(tmp_path))["x"], np.stack([array] * 5))


@pytest.mark.parametrize("array", [np.asarray(3.5), np.empty((0, 2)), np.arange(5)])
def test_samples_may_be_single_numbers_vectors_or_empty(tmp_path, array):
    for number in range(2):
        np.save(tmp_path / f"{number}.npy", array)

    assert np.array_equal(everything(Dataset.from_npy_files(tmp_path))["x"], np.stack([array, array]))


def test_a_missing_folder_of_arrays_is_named(tmp_path):
    for ids in (None, ["a"]):
        with pytest.raises(DatasetError, match=f"folder '{tmp_path}/no' does not exist"):
            everything(Dataset.from_npy_files(tmp_path / "no", ids=ids))


def test_a_folder_without_arrays_is_named(tmp_path):
    with pytest.raises(DatasetError, match=f"folder '{tmp_path}' holds no .npy files"):
        everything(Dataset.from_npy_files(tmp_path))


def test_no_ids_at_all_are_refused(npy_folder):
    with pytest.raises(DatasetError, match="ids is empty"):
        everything(Dataset.from_npy_files(npy_folder, ids=[]))


def test_an_id_without_a_file_is_named(npy_folder):
    with pytest.raises(DatasetError, match=f"id '17' has no file {npy_folder}/17.npy"):
        everything(Dataset.from_npy_files(npy_folder, ids=["1", "17"]))


def test_ids_without_a_label_are_named(npy_folder):
    with pytest.raises(DatasetError, match=r"8 of 10 ids have no label: '2', '3', '4', \.\.\."):
        Dataset.from_npy_files(npy_folder, labels={"0": 1, "1": 1})


@pytest.mark.parametrize("ids", [None, [str(number) for number in range(10)]])
def test_labels_of_another_length_are_refused_with_both_lengths(npy_folder, ids):
    with pytest.raises(DatasetError, match="10 ids and 3 labels: expected one for each"):
        everything(Dataset.from_npy_files(npy_folder, ids=ids, labels=[1, 2, 3]))


@pytest.mark.parametrize("labels", ["cat", 7, ["cat"] * 10, [None] * 10])
def test_labels_that_are_no_numbers_are_refused(npy_folder, labels):
    with pytest.raises(DatasetError, match=r"from_npy_files: labels is .*, expected numbers with one row for each"):
        Dataset.from_npy_files(npy_folder, labels=labels)


@pytest.mark.parametrize("column", [True, False])
@pytest.mark.parametrize(
    "other", [np.zeros((3, 3), "float32"), np.zeros((3, 2)), np.zeros((2, 3), "float32", order="F")]
)
def test_an_array_unlike_its_siblings_is_refused_by_name_with_both_specs(npy_folder, tmp_path, other, column):
    np.save(tmp_path / "0.npy", np.zeros((3, 2), "float32"))
    np.save(tmp_path / "1.npy", other)
    dataset = Dataset.from_npy_files(tmp_path)
    if not column:
        dataset = dataset.map("copy:copy")

    with pytest.raises(SpecMismatch) as refused:
        everything(dataset)

    if column:
        told = f"it holds {other.dtype} {other.shape}, its siblings float32 (3, 2) ({tmp_path}/0.npy): "
    elif other.dtype == "float32":
        told = "field 'x' is float32"
    else:
        told = "map: 'copy:copy' returned float64 in field 'x', and float32 of the first sample: "
    assert str(refused.value).startswith(f"sample 1 ({tmp_path}/1.npy): {told}")


def test_arrays_of_any_shape_may_be_made_alike_by_a_later_step(user_module, tmp_path):
    for number, length in enumerate([3, 5, 4]):
        np.save(tmp_path / f"{number}.npy", np.full((length, 2), number, "float32"))
    module = user_module("def first(sample): return {'x': sample['x'][:3]}\n")

    batch = Dataset.from_npy_files(tmp_path).map(f"{module}:first").batch(3).compute(0)

    assert batch["x"].shape == (3, 3, 2)
    assert batch["x"][:, 0, 0].tolist() == [0, 1, 2]


def test_an_array_that_was_cut_off_is_refused_by_name(tmp_path):
    for number in range(2):
        np.save(tmp_path / f"{number}.npy", np.zeros(100))
    content = (tmp_path / "1.npy").read_bytes()
    (tmp_path / "1.npy").write_bytes(content[:-8])

    with pytest.raises(
        SampleError, match=r"sample 1 \(.*/1.npy\): it is 8 bytes short of the 928 that its header prom"
    ):
        everything(Dataset.from_npy_files(tmp_path))


@pytest.mark.parametrize("length", [0, 5, 60, 128])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_file_that_ends_in_its_header_is_refused_by_name(tmp_path, length, order):
    """Its header's buffer still holds the header of the file before."""
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", np.zeros((10, 10), order=order))
    (tmp_path / "1.npy").write_bytes((tmp_path / "1.npy").read_bytes()[:length])

    with pytest.raises(DatasetError, match=r"sample 1 \(.*/1.npy\)"):
        everything(Dataset.from_npy_files(tmp_path))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff" + bytes(200)])
def test_a_first_file_that_is_no_array_is_refused_by_name(tmp_path, content):
    (tmp_path / "0.npy").write_bytes(content)

    with pytest.raises(DatasetError, match=rf"sample 0 \({tmp_path}/0.npy\): it.*(is no .npy file|header)"):
        everything(Dataset.from_npy_files(tmp_path))


@pytest.mark.parametrize("array", [np.array(["a"]), np.zeros(2, [("a", "i4")]), np.zeros(2, "M8[s]")])
def test_files_of_anything_but_numbers_are_refused_by_name(tmp_path, array):
    np.save(tmp_path / "0.npy", array)

    with pytest.raises(
        DatasetError, match=rf"sample 0 \({tmp_path}/0.npy\): its header cannot be used: dtype .* cannot be shared"
    ):
        everything(Dataset.from_npy_files(tmp_path))


# -- arrays -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", ["uint8", "int32", "float16", "float32", "float64", "bool", "complex64", ">f4", ">i2"]
)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("stored", [True, False])
def test_arrays_are_read_by_row_wherever_they_lie(tmp_path, dtype, order, stored):
    array = np.asarray(np.arange(60).reshape(10, 3, 2) % 7, dtype, order=order)
    np.save(tmp_path / "x.npy", array)

    dataset = Dataset.from_arrays(x=tmp_path / "x.npy" if stored else array).shuffle(1).batch(10)
    batch = dataset.plan.compute(0)

    assert dataset.spec == {"x": FieldSpec((3, 2), np.dtype(dtype).name)}
    assert np.array_equal(batch["x"], array[batch["ids"]])


def test_big_endian_pictures_survive_opencv(tmp_path):
    """OpenCV does not look at the byte order."""
    pictures = np.arange(2 * 4 * 6 * 3, dtype=">f4").reshape(2, 4, 6, 3)
    np.save(tmp_path / "x.npy", pictures)

    for source in (tmp_path / "x.npy", pictures):
        batch = Dataset.from_arrays(image=source).random_flip(horizontal=1).batch(2).compute(0)
        assert np.array_equal(batch["image"], pictures[:, :, ::-1])


def test_lists_and_numbers_of_python_are_arrays():
    batch = Dataset.from_arrays(x=[[1.5, 2], [3, 4]], y=range(2)).batch(2).compute(0)

    assert batch["x"].tolist() == [[1.5, 2], [3, 4]]
    assert batch["y"].tolist() == [0, 1]


def test_a_path_may_be_text_and_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.arange(4))

    dataset = Dataset.from_arrays(x="x.npy").batch(4)
    monkeypatch.chdir("/")

    assert dataset.compute(0)["x"].tolist() == [0, 1, 2, 3]


def test_an_array_is_not_copied_when_it_is_declared():
    array = np.zeros(1000)

    dataset = Dataset.from_arrays(x=array)

    assert any(np.shares_memory(array, kept) for kept in dataset.tables.values())


@pytest.mark.parametrize(
    "value, told",
    [
        (7, r"from_arrays: 'x' is int64 \(\), expected numbers with one row for each sample"),
        (np.array(["a", "b"]), r"from_arrays: 'x' is <U1 \(2,\), expected numbers"),
        (np.array([None]), r"from_arrays: 'x' is object \(1,\), expected numbers"),
        ([[1], [1, 2]], "from_arrays: 'x' cannot be made an array: .*inhomogeneous"),
    ],
)
def test_what_holds_no_rows_of_numbers_is_refused(value, told):
    with pytest.raises(DatasetError, match=told):
        Dataset.from_arrays(x=value)


def test_no_arrays_are_refused():
    with pytest.raises(DatasetError, match=r"needs at least one field: from_arrays\(x=\.\.\., y=\.\.\.\)"):
        Dataset.from_arrays()


def test_arrays_of_different_lengths_are_refused_with_their_lengths():
    with pytest.raises(DatasetError, match=r"arrays of different lengths \(x: 3, y: 4\): expected one row"):
        everything(Dataset.from_arrays(x=np.zeros(3), y=np.zeros(4)))


def test_empty_arrays_are_refused():
    with pytest.raises(DatasetError, match=r"the arrays are empty \(x\)"):
        everything(Dataset.from_arrays(x=np.zeros((0, 3))))


def test_a_missing_file_of_an_array_is_named(tmp_path):
    with pytest.raises(DatasetError, match=f"array file '{tmp_path}/x.npy' does not exist"):
        everything(Dataset.from_arrays(x=tmp_path / "x.npy"))


def broken_files(folder):
    np.save(folder / "whole.npy", np.zeros(100))
    (folder / "cut.npy").write_bytes((folder / "whole.npy").read_bytes()[:-8])
    (folder / "empty.npy").touch()
    (folder / "text.npy").write_text("no array")
    np.savez(folder / "archive.npz", x=np.zeros(3))
    np.save(folder / "single.npy", np.asarray(3.0))
    np.save(folder / "words.npy", np.array(["a", "b"]))


@pytest.mark.parametrize(
    "name, told",
    [
        ("cut.npy", "'.*cut.npy' cannot be mapped: mmap length is greater than file size"),
        ("empty.npy", "'.*empty.npy' cannot be mapped"),
        ("text.npy", "'.*text.npy' cannot be mapped"),
        ("archive.npz", "'.*archive.npz' is an archive of arrays: save each one as .npy"),
        ("single.npy", "'.*single.npy' holds a single number, expected one row for each sample"),
        ("words.npy", "dtype '<U1' cannot be shared between processes"),
    ],
)
def test_a_file_that_holds_no_rows_is_refused_by_field_and_name(tmp_path, name, told):
    broken_files(tmp_path)

    with pytest.raises(DatasetError, match=f"field 'x': {told}"):
        everything(Dataset.from_arrays(x=tmp_path / name))


# -- a user's own source ------------------------------------------------------------------------------------

SOURCE = """
import numpy as np

class Squares:
    def __len__(self):
        return 10

    def __getitem__(self, i):
        if i == BROKEN:
            raise KeyError("no such square")
        return {"x": np.full((2, 2), i * i, "float32"), "y": i}

class Fast(Squares):
    def read_rows(self, ids, out):
        ids.sort()  # as h5py wants them; the caller's own order must not change
        assert not BROKEN, "the disk is on fire"
        for row, i in enumerate(ids):
            out["x"][row], out["y"][row] = i * i, i

BROKEN = None
squares = Squares()
def make(): return Squares()
listed = [{"x": 1.0}, {"x": 2.0}]
"""


@pytest.mark.parametrize("attr", ["Squares", "squares", "make"])
def test_a_users_source_is_a_class_an_object_or_what_makes_one(user_module, attr):
    batch = Dataset.from_python(f"{user_module(SOURCE)}:{attr}").batch(4).compute(1)

    assert batch["x"][:, 1, 1].tolist() == [16, 25, 36, 49]
    assert batch["y"].tolist() == [4, 5, 6, 7]
    assert batch["y"].dtype == np.int64


def test_a_list_is_a_source(user_module):
    assert everything(Dataset.from_python(f"{user_module(SOURCE)}:listed"))["x"].tolist() == [1, 2]


def test_a_source_may_fill_many_rows_at_once(user_module):
    """It is handed a copy of the ids: whatever it does to them, the order of the epoch stays."""
    module = user_module(SOURCE)
    fast = Dataset.from_python(f"{module}:Fast").shuffle(3).batch(5)

    seen = [fast.compute(n)["y"].tolist() for n in (0, 1, 0)]

    assert seen[0] == sorted(fast.plan.compute(0)["ids"].tolist())
    assert sorted(seen[0] + seen[1]) == list(range(10))
    assert seen[2] == seen[0]


def test_a_source_that_fills_rows_is_read_one_by_one_where_transforms_follow(user_module):
    dataset = Dataset.from_python(f"{user_module(SOURCE)}:Fast").rescale(2, field="x").shuffle(3).batch(5)

    batch = dataset.plan.compute(0)

    assert batch["x"][:, 0, 0].tolist() == (2 * batch["ids"] ** 2).tolist()


def test_an_exception_of_a_source_names_the_sample(user_module):
    module = user_module(SOURCE.replace("BROKEN = None", "BROKEN = 3"))

    with pytest.raises(SampleError, match=rf"sample 3 \({module}:Squares\[3\]\): KeyError: 'no such square'") as failed:
        everything(Dataset.from_python(f"{module}:Squares"))

    assert f'{module}.py", line' in failed.value.__notes__[0]


def test_an_exception_of_read_rows_names_the_first_sample_that_raises_alone(user_module):
    module = user_module(SOURCE.replace("BROKEN = None", "BROKEN = 3"))

    with pytest.raises(
        SampleError, match=rf"sample 4 \({module}:Fast\[4\]\): AssertionError: the disk is on"
    ) as failed:
        Dataset.from_python(f"{module}:Fast").batch(4).compute(1)

    assert f'{module}.py", line' in failed.value.__notes__[0]


@pytest.mark.parametrize(
    "sample, fields", [("(x, i)", ["x", "y"]), ("(x, np.int64(i), 0.5)", ["x", "y", "weight"])], ids=["pair", "triple"]
)
def test_a_tuple_is_x_and_y_and_perhaps_weight(user_module, sample, fields):
    """What a dataset for PyTorch returns, it returns here: no line of it needs to change."""
    module = user_module(
        "import numpy as np\n\nclass Map:\n    def __len__(self):\n        return 6\n\n"
        f"    def __getitem__(self, i):\n        x = np.full((2, 3), i, 'float32')\n        return {sample}\n"
    )

    batch = everything(Dataset.from_python(f"{module}:Map"))

    assert list(batch) == fields
    assert (batch["x"].shape, batch["x"].dtype) == ((6, 2, 3), np.float32)
    assert batch["x"][:, 1, 2].tolist() == batch["y"].tolist() == list(range(6))
    assert "weight" not in fields or (batch["weight"] == 0.5).all()


@pytest.mark.parametrize(
    "source, told",
    [
        ("source = 7", "is int, expected len\\(\\) and \\[i\\]"),
        ("def source(): return iter([1])", "gave list_iterator, which has no __len__"),
        ("source = []", "is empty: its length is 0"),
        ("source = [7, 8]", r"\[0\]\): it is int, expected a dict of arrays"),
        (
            "source = [(1,)]",
            r"\[0\]\): it is tuple, expected a dict of arrays, or a tuple \(x, y\) or \(x, y, weight\)",
        ),
        ("source = [None]", r"\[0\]\): it is NoneType, expected a dict of arrays"),
        ("source = [{}]", r"\[0\]\): it is dict, expected a dict of arrays"),
        (
            "source = [{'x': ['some', 'text']}]",
            r"\[0\]\): .*: field 'x': dtype '<U4' cannot be shared between processes",
        ),
    ],
)
def test_what_is_no_source_is_refused_by_name(user_module, source, told):
    module = user_module(source + "\n")

    with pytest.raises(DatasetError, match=f"{module}:source.*{told}"):
        everything(Dataset.from_python(f"{module}:source"))


@pytest.mark.parametrize(
    "second, told",
    [
        ("{'x': [1.0, 2.0, 3.0]}", r"field 'x' is float64 \(3,\), declared float64 \(2,\). The first sample sets"),
        (
            "{'x': [1j, 2j]}",
            r'field \'x\' is complex128, declared float64: the cast would lose something. Add .cast\("x"',
        ),
        ("{'z': [1.0, 2.0]}", r"field 'x' is missing; the sample has \['z'\]"),
    ],
)
def test_a_sample_unlike_the_first_is_refused_by_name(user_module, second, told):
    module = user_module(f"source = [{{'x': [1.0, 2.0]}}, {second}]\n")

    with pytest.raises(SpecMismatch, match=rf"sample 1 \({module}:source\[1\]\): {told}"):
        everything(Dataset.from_python(f"{module}:source"))


def test_a_sample_that_loses_nothing_is_cast(user_module):
    module = user_module("source = [{'x': 1.5}, {'x': 2}]\n")

    assert everything(Dataset.from_python(f"{module}:source"))["x"].tolist() == [1.5, 2.0]


@pytest.mark.parametrize(
    ("ids", "labels", "told"),
    [
        (["0", "3", "0"], [1, 2, 3], r"id '0' is there 2 times: each file is one sample\. To see some more often"),
        (["0", "3"], [1.0, float("nan")], r"the label of '3' is NaN: leave that sample out"),
        (["0", "3"], [[1.0, 2.0], [float("nan"), 1.0]], r"the label of '3' is NaN"),
        (["0", "3"], [1, 2, 3], r"2 ids and 3 labels: expected one for each"),
    ],
)
def test_ids_and_labels_that_do_not_go_together_are_refused(npy_folder, ids, labels, told):
    with pytest.raises(DatasetError, match=told):
        Dataset.from_npy_files(npy_folder, ids=ids, labels=labels)
