"""Lists of files with their labels, folders without classes, tables, and files that belong together by name."""

import gc
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from loader_service import Dataset
from loader_service.dataset.catalog import declare_all
from loader_service.dataset.sources.npy_bodies import NpyHeader
from loader_service.protocol.errors import ConfigError, DatasetError, SampleError, SpecMismatch
from loader_service.protocol.spec import FieldSpec
from tests.dataset.conftest import gradient, write_picture
from tests.dataset.reference import assert_same, plain_batch

PALETTE = [number * 37 % 256 for number in range(768)]


def everything(dataset):
    """Return all samples of a dataset as one batch."""
    plan = dataset.batch(1).plan
    return dataset.batch(plan.samples).compute(0)


@pytest.fixture
def folder(tmp_path):
    """Pictures 0.png .. 4.png, each of one grey; arrays 0.npy .. 4.npy; masks with a palette."""
    (tmp_path / "masks").mkdir()
    for number in range(5):
        write_picture(tmp_path / f"pictures/{number}.png", np.full((4, 6, 3), 10 * number, np.uint8))
        (tmp_path / "arrays").mkdir(exist_ok=True)
        np.save(tmp_path / f"arrays/{number}.npy", np.full((3,), number, np.float32))
        (tmp_path / f"masks/{number}.png").write_bytes(encoded(np.full((4, 6), number, np.uint8)))
    return tmp_path


def pictures(count=5):
    return [f"pictures/{number}.png" for number in range(count)]


# -- from_files ---------------------------------------------------------------------------------------------


def test_pictures_of_a_list_come_in_its_order_with_their_labels(folder):
    paths = [folder / "pictures/3.png", folder / "pictures/0.png"]

    dataset = Dataset.from_files(paths, [7, 8]).batch(2)

    assert dataset.spec == {"image": FieldSpec((4, 6, 3), "uint8"), "label": FieldSpec((), "int64")}
    assert dataset.compute(0)["image"][:, 0, 0, 0].tolist() == [30, 0]
    assert dataset.compute(0)["label"].tolist() == [7, 8]


def test_arrays_of_a_list_are_the_field_x(folder):
    batch = everything(Dataset.from_files(["arrays/2.npy", "arrays/1.npy"], root=folder))

    assert list(batch) == ["x"]
    assert batch["x"].tolist() == [[2, 2, 2], [1, 1, 1]]


def test_relative_paths_are_those_of_the_current_folder_unless_a_root_is_said(folder, monkeypatch):
    monkeypatch.chdir(folder)
    here = Dataset.from_files(pictures()).batch(5)
    monkeypatch.chdir("/")

    assert here.names() == [f"{folder}/pictures/{number}.png" for number in range(5)]
    assert here.key == Dataset.from_files(pictures(), root=folder).batch(5).key


def test_text_labels_are_numbered_by_their_sorted_names(folder):
    dataset = Dataset.from_files(pictures(3), ["dog", "cat", "dog"], root=folder).batch(3)

    assert dataset.class_names == ["cat", "dog"]
    assert dataset.compute(0)["label"].tolist() == [1, 0, 1]


def test_classes_that_are_given_number_text_in_their_order(folder):
    """Validation data that lacks a class must number the others as training did."""
    dataset = Dataset.from_files(pictures(2), ["dog", "cat"], root=folder, classes=["emu", "dog", "cat"]).batch(2)

    assert dataset.class_names == ["emu", "dog", "cat"]
    assert dataset.compute(0)["label"].tolist() == [1, 2]


def test_classes_name_labels_that_are_numbers_already(folder):
    numbers = Dataset.from_files(pictures(2), [1, 0], root=folder, classes=["cat", "dog"]).batch(2)
    several = Dataset.from_files(pictures(2), [[1, 0], [1, 1]], root=folder, classes=["cat", "dog"]).batch(2)

    assert numbers.class_names == several.class_names == ["cat", "dog"]


@pytest.mark.parametrize(
    "labels, spec",
    [
        ([0.5, 1.5, 2.5], FieldSpec((), "float64")),
        (np.asarray([1, 0, 1], bool), FieldSpec((), "bool")),
        (np.eye(3, 4, dtype=np.float32), FieldSpec((4,), "float32")),
        (np.arange(3, dtype=">i2"), FieldSpec((), "int16")),
        (np.arange(3, dtype=object), FieldSpec((), "int64")),
        (np.zeros((3, 2, 2), np.float16), FieldSpec((2, 2), "float16")),
    ],
)
def test_labels_may_be_numbers_or_arrays_of_any_shape(folder, labels, spec):
    dataset = Dataset.from_files(pictures(3), labels, root=folder).batch(3)

    assert dataset.spec["label"] == spec
    assert np.array_equal(dataset.compute(0)["label"], np.asarray(labels).astype(spec.dtype))


def test_a_dict_of_columns_is_a_field_each(folder):
    labels = {"species": ["cat", "dog", "cat"], "age": [1.0, 2.0, 3.0], "weight": np.ones(3, np.float32)}

    dataset = Dataset.from_files(pictures(3), labels, root=folder).batch(3)

    assert list(dataset.spec) == ["image", "species", "age", "weight"]
    assert dataset.class_names == ["cat", "dog"]  # those of the one field that has classes
    assert dataset.compute(0)["age"].tolist() == [1, 2, 3]


def test_several_files_a_sample_are_a_field_each(folder):
    paths = {"image": pictures(), "features": [f"arrays/{n}.npy" for n in range(5)], "mask": ["masks/4.png"] * 5}

    batch = everything(Dataset.from_files(paths, np.arange(5), root=folder))

    assert {name: array.shape for name, array in batch.items()} == {
        "image": (5, 4, 6, 3),
        "features": (5, 3),
        "mask": (5, 4, 6, 1),
        "label": (5,),
    }
    assert batch["mask"][0, 0, 0, 0] == 4


def test_a_flat_folder_is_read_by_name_without_labels(folder):
    (folder / "pictures/notes.txt").touch()
    (folder / "pictures/.hidden.png").touch()
    write_picture(folder / "pictures/10.png", gradient(4, 6))
    (folder / "pictures/deeper").mkdir()

    dataset = Dataset.from_files(folder / "pictures").batch(6)

    assert list(dataset.spec) == ["image"]
    assert [name.rpartition("/")[2] for name in dataset.names()] == [f"{n}.png" for n in (0, 1, 10, 2, 3, 4)]


def test_a_pattern_is_read_by_name_sub_folders_too(folder):
    write_picture(folder / "pictures/deep/er/0.png", gradient(4, 6))

    assert Dataset.from_files(folder / "pictures/*.png").batch(1).samples == 5
    names = Dataset.from_files(f"{folder}/pictures/**/*.png").batch(1).names()

    assert names[-1] == f"{folder}/pictures/deep/er/0.png"
    assert len(names) == 6


def test_names_tell_the_files_of_any_ids_and_nothing_of_padding(folder):
    dataset = Dataset.from_files(pictures(3), root=folder).batch(2, remainder="pad")

    assert dataset.names([2, -1, 0]) == [f"{folder}/pictures/2.png", "", f"{folder}/pictures/0.png"]
    with pytest.raises(DatasetError, match="sample 3 is none: ids count from 0 to 2"):
        dataset.names([3])


@pytest.mark.parametrize("shape", ["pictures", "arrays", "both"])
@pytest.mark.parametrize("task", [1, 2, 5])
def test_batches_are_those_of_the_plainest_way_however_rows_are_cut(folder, shape, task):
    paths = {"pictures": pictures(), "arrays": [f"arrays/{n}.npy" for n in range(5)]}
    dataset = {
        "pictures": lambda: Dataset.from_files(paths["pictures"], list("abcab"), root=folder).random_crop(3, 3),
        "arrays": lambda: Dataset.from_files(paths["arrays"], np.eye(5), root=folder).rescale(0.5, field="x"),
        "both": lambda: Dataset.from_files(
            {"image": paths["pictures"], "x": paths["arrays"]}, root=folder
        ).random_flip(),
    }[shape]()
    dataset = dataset.shuffle(3).batch(5)

    for n in range(2):
        rows = {name: np.zeros_like(array) for name, array in dataset.plan.compute(n).items()}
        for start in range(0, 5, task):
            stop = min(start + task, 5)
            dataset.plan.fill(n, start, stop, {name: array[start:stop] for name, array in rows.items()})
        del rows["ids"]
        assert_same(rows, plain_batch(dataset, n))
        assert_same(dataset.compute(n), rows)


def test_one_more_file_or_another_size_is_another_dataset(folder):
    keys = [Dataset.from_files(folder / "arrays").batch(1).key]
    np.save(folder / "arrays/9.npy", np.zeros(3, np.float32))
    keys.append(Dataset.from_files(folder / "arrays").batch(1).key)
    np.save(folder / "arrays/9.npy", np.zeros(4, np.float32))
    keys.append(Dataset.from_files(folder / "arrays").batch(1).key)
    keys += [Dataset.from_files(["arrays/1.npy"], [label], root=folder).batch(1).key for label in (0, 1)]

    assert len(set(keys)) == 5


def test_a_list_is_shown_by_its_length_and_travels_as_tables(folder):
    dataset = Dataset.from_files(pictures(), list("abcab"), root=folder).batch(5)

    plain = json.loads(json.dumps(dataset.to_dict()))

    assert "paths={image: 5 names}, labels={label: int64 (5,)}" in repr(dataset)
    assert Dataset.from_dict(plain, dataset.tables).key == dataset.key


def test_a_million_paths_take_a_moment_to_declare(tmp_path):
    """The limit is generous: it takes two seconds. Anything that is done in Python for each pair would take hours."""
    paths = [f"{number:07}.npy" for number in range(1_000_000)]

    dataset = Dataset.from_files(paths, np.arange(1_000_000), root=tmp_path)

    assert sum(array.nbytes for array in dataset.tables.values()) < 30e6
    assert len(json.dumps(dataset.batch(1).to_dict())) < 2000


@pytest.mark.parametrize(
    "paths, labels, told",
    [
        ([], None, "the list of files is empty: expected at least one path"),
        (["a.png", "b.png"], [1, 2, 3], "2 paths and 3 labels in 'label': expected one for each"),
        (["a.png", "b.png", "a.png"], None, "'a.png' is listed 2 times, in rows 0 and 2: a file is one sample"),
        ({"image": ["a.png"], "mask": []}, None, r"of different lengths \(image: 1, mask: 0\)"),
        (["a.png", "b.npy"], None, r"1 .npy files and 1 pictures \('a.png'\) in one list"),
        (["a.png", "b.txt"], None, "'b.txt' is no file that is read: expected names ending in .npy, or in .jpg"),
        (["a.png", 7], None, r"paths\[1\] is 7, expected the path of a file"),
        (["a.png", "b.png"], [1, float("nan")], r"label of 'b.png' \(row 1, field 'label'\) is NaN"),
        (["a.png", "b.png"], [[1, 2], [np.nan, 1]], r"label of 'b.png' \(row 1, field 'label'\) is NaN"),
        (["a.png", "b.png"], ["cat", float("nan")], r"label of 'b.png' \(row 1, field 'label'\) is missing"),
        (["a.png", "b.png", "c.png"], [None, 1, None], r"'a.png' \(row 0, field 'label'\) is missing, as are 1 more"),
        (["a.png", "b.png"], ["cat", 1], "labels of the field 'label' are int and str, expected numbers, or text"),
        (["a.png", "b.png"], [[1], [1, 2]], "labels of the field 'label' cannot be made an array"),
        (["a.png", "b.png"], {"a.png": 1, "b.png": 0}, r"give \[labels\[path\] for path in paths\]"),
        (["a.png"], {"image": [1]}, "'image' is among the files and among the labels"),
        (["a.png"], np.asarray(["2020-01-01"], "M8[D]"), "labels of the field 'label': dtype 'datetime64"),
    ],
)
def test_lists_that_cannot_be_right_are_refused_when_they_are_declared(paths, labels, told):
    with pytest.raises(DatasetError, match=told):
        Dataset.from_files(paths, labels)


@pytest.mark.parametrize(
    "labels, classes, told",
    [
        (["cat", "doc"], ["cat", "dog"], r"'b.png' .* is 'doc', which is none of the classes; did you mean 'dog'\?"),
        ([0, 2], ["cat", "dog"], r"'b.png' .* is 2, and there are 2 classes: expected 0 .. 1"),
        ([0.5, 1], ["cat", "dog"], r"'label' is float64 \(\), which 2 classes do not fit"),
        (["cat", "cat"], ["cat", "cat"], "has a name twice"),
        ({"a": [0, 1], "b": [0, 1]}, ["cat", "dog"], "classes belong to the field 'label'"),
    ],
)
def test_classes_that_do_not_fit_are_refused(labels, classes, told):
    with pytest.raises(DatasetError, match=told):
        Dataset.from_files(["a.png", "b.png"], labels, classes=classes)


def test_missing_files_are_counted_and_named(folder):
    with pytest.raises(DatasetError) as refused:
        everything(Dataset.from_files([*pictures(2), "pictures/x.png", "pictures/y.png"], root=folder))

    assert str(refused.value) == (
        "2 of 4 files do not exist: 'pictures/x.png', 'pictures/y.png'; "
        f"relative paths are looked for in '{folder}': see root="
    )


@pytest.mark.parametrize(
    "where, told",
    [
        ("nowhere", "nowhere' does not exist: expected a folder, a pattern, or a list of paths"),
        ("pictures/0.png", "0.png' is one file: expected a folder"),
        ("*.jpg", r"no file matches '.*/\*.jpg'"),
        (".", "holds no files ending in .jpg.*give a pattern"),
    ],
)
def test_folders_and_patterns_without_files_say_what_was_expected(folder, where, told):
    with pytest.raises(DatasetError, match=told):
        everything(Dataset.from_files(folder / where))


def test_labels_for_a_folder_are_refused_since_nobody_sees_its_order(folder):
    with pytest.raises(DatasetError, match=r"labels= belongs to a list of paths, and .* is a folder, or a pattern"):
        Dataset.from_files(folder / "pictures", labels=[1, 2, 3, 4, 5])


@pytest.mark.parametrize("field, name", [("image", "pictures/3.png"), ("features", "arrays/3.npy")])
def test_a_damaged_file_of_a_sample_of_several_is_named_itself(folder, field, name):
    dataset = Dataset.from_files({"image": pictures(), "features": [f"arrays/{n}.npy" for n in range(5)]}, root=folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:-9])

    with pytest.raises(
        SampleError, match=rf"sample 3 \({folder}/pictures/3.png\): {'' if field == 'image' else field}"
    ) as e:
        everything(dataset)

    assert field == "image" or f"'{folder}/{name}'" in str(e.value)


def test_arrays_unlike_their_siblings_are_refused_by_name(folder):
    np.save(folder / "arrays/3.npy", np.zeros(4, np.float32))

    with pytest.raises(
        SpecMismatch, match=r"sample 3 \(.*3.npy\): it holds float32 \(4,\), its siblings float32 \(3,\)"
    ):
        everything(Dataset.from_files([f"arrays/{n}.npy" for n in range(5)], root=folder))


def test_arrays_of_different_lengths_are_padded(folder):
    for number in range(5):
        np.save(folder / f"arrays/{number}.npy", np.full((number + 1, 2), number + 1, np.float32))
    paths = {"image": pictures(), "steps": [f"arrays/{number}.npy" for number in range(5)]}

    dataset = Dataset.from_files(paths, root=folder).pad("steps", most=9, lengths="length").batch(3)

    assert [dataset.compute(n)["steps"].shape for n in range(2)] == [(3, 3, 2), (2, 5, 2)]
    assert dataset.compute(1)["length"].tolist() == [4, 5]
    assert dataset.compute(1)["steps"][0, :, 0].tolist() == [4, 4, 4, 4, 0]


def test_a_bad_file_is_replaced_where_that_is_asked_for(folder, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    (folder / "pictures/2.png").write_bytes(b"no picture")
    dataset = Dataset.from_files(pictures(), list("abcab"), root=folder).on_error("replace", most=0.5).batch(5)

    batch = dataset.compute(0)

    assert [bad.file for bad in dataset.plan.ledger] == [f"{folder}/pictures/2.png"]
    assert 20 not in batch["image"][:, 0, 0, 0]


# -- masks --------------------------------------------------------------------------------------------------


def encoded(indices, mode="P", **options):
    file = io.BytesIO()
    picture = Image.fromarray(indices, mode)
    if mode == "P":
        picture.putpalette(PALETTE[: 3 * 2 ** options.get("bits", 8)])
    picture.save(file, "PNG", **options)
    return file.getvalue()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("options", [{}, {"transparency": 0}])
def test_a_mask_with_a_palette_is_its_indices(tmp_path, bits, options):
    """Everybody's annotation tools write these; OpenCV would make colours of them."""
    indices = (np.arange(7 * 9).reshape(7, 9) % 2**bits).astype(np.uint8)
    (tmp_path / "1.png").write_bytes(encoded(indices, bits=bits, **options))

    dataset = Dataset.from_files({"mask": [tmp_path / "1.png"]}).batch(1)

    assert dataset.spec == {"mask": FieldSpec((7, 9, 1), "uint8")}
    assert np.array_equal(dataset.compute(0)["mask"][0, ..., 0], indices)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_a_grey_mask_is_what_is_stored(tmp_path, dtype, suffix):
    numbers = (np.arange(63).reshape(7, 9) * 4).astype(dtype)
    cv2.imwrite(str(tmp_path / f"1{suffix}"), numbers)

    mask = everything(Dataset.from_files({"mask": [tmp_path / f"1{suffix}"]}))["mask"]

    assert mask.dtype == dtype
    assert np.array_equal(mask[0, ..., 0], numbers)


def test_three_equal_channels_are_one(tmp_path):
    numbers = np.arange(63, dtype=np.uint8).reshape(7, 9)
    cv2.imwrite(str(tmp_path / "1.png"), np.dstack([numbers] * 3))

    mask = everything(Dataset.from_files({"mask": [tmp_path / "1.png"]}))["mask"]

    assert np.array_equal(mask[0, ..., 0], numbers)


@pytest.mark.parametrize(
    "content, told",
    [
        (
            cv2.imencode(".png", gradient(7, 9))[1].tobytes(),
            "it has colours, expected a mask: one number for each pixel",
        ),
        (encoded(np.zeros((50, 50), np.uint8))[:-40], "no picture that can be decoded"),
        (encoded(np.zeros((5, 5), np.uint8))[:35], "no picture that can be decoded"),
        (b"\x89PNG", "its 4 bytes are no picture"),
        (b"", "the file is empty"),
        (cv2.imencode(".jpg", gradient(64, 64))[1].tobytes()[:500], "the JPEG is damaged"),
    ],
)
def test_what_is_no_mask_is_refused_by_name(tmp_path, content, told):
    (tmp_path / "1.png").write_bytes(content)

    with pytest.raises(DatasetError, match=f"{tmp_path}/1.png.*{told}"):
        everything(Dataset.from_files({"mask": [tmp_path / "1.png"]}))


def test_masks_go_by_the_names_that_are_said(tmp_path):
    (tmp_path / "1.png").write_bytes(encoded(np.full((4, 4), 2, np.uint8)))

    batch = everything(Dataset.from_files({"image": [tmp_path / "1.png"], "y": [tmp_path / "1.png"]}, masks=["y"]))

    assert batch["image"].shape == (1, 4, 4, 3)
    assert batch["image"][0, 0, 0].tolist() == PALETTE[6:9]
    assert batch["y"].tolist() == np.full((1, 4, 4, 1), 2).tolist()


def test_a_mask_is_resized_by_its_nearest_numbers(tmp_path):
    numbers = np.kron([[0, 9], [200, 3]], np.ones((8, 8))).astype(np.uint8)
    (tmp_path / "1.png").write_bytes(encoded(numbers))
    dataset = Dataset.from_files({"mask": [tmp_path / "1.png"]}).resize(5, 5, interpolation="nearest", field="mask")

    mask = everything(dataset)["mask"]

    assert mask.shape == (1, 5, 5, 1)
    assert set(np.unique(mask)) == {0, 3, 9, 200}


# -- from_table ---------------------------------------------------------------------------------------------


CSV = """path,label,age,size
pictures/0.png,dog,3,0.5
pictures/1.png,cat,4,1.5
pictures/2.png,dog,5,2.5
"""


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\N{BYTE ORDER MARK}"])
def test_a_csv_file_names_files_beside_it_and_their_labels(folder, delimiter, mark):
    (folder / "list.csv").write_text(mark + CSV.replace(",", delimiter))

    dataset = Dataset.from_table(folder / "list.csv").batch(3)

    assert dataset.class_names == ["cat", "dog"]
    assert dataset.compute(0)["label"].tolist() == [1, 0, 1]
    assert dataset.compute(0)["image"][:, 0, 0, 0].tolist() == [0, 10, 20]


@pytest.mark.parametrize(
    "labels, specs",
    [
        (None, {}),
        ("age", {"label": FieldSpec((), "int64")}),
        ("size", {"label": FieldSpec((), "float64")}),
        (["age", "size"], {"label": FieldSpec((2,), "float64")}),
        ({"y": "label", "about": ["age", "age"]}, {"y": FieldSpec((), "int64"), "about": FieldSpec((2,), "int64")}),
    ],
)
def test_labels_are_any_columns_alone_together_or_as_fields(folder, labels, specs):
    (folder / "list.csv").write_text(CSV)

    dataset = Dataset.from_table(folder / "list.csv", labels=labels).batch(3)

    assert {name: spec for name, spec in dataset.spec.items() if name != "image"} == specs


def test_paths_are_any_column_or_several(folder):
    (folder / "tables").mkdir()
    (folder / "tables/list.csv").write_text("a,b,n\npictures/0.png,masks/3.png,1\n")

    dataset = Dataset.from_table(
        folder / "tables/list.csv", path={"image": "a", "mask": "b"}, labels="n", root=folder
    ).batch(1)

    assert dataset.compute(0)["mask"][0, 0, 0, 0] == 3
    assert dataset.names() == [f"{folder}/pictures/0.png"]


@pytest.mark.parametrize("between", [" ", "   ", "\t"])
def test_lines_of_text_hold_a_path_and_a_label(folder, between):
    write_picture(folder / "two words.png", gradient(4, 6))
    (folder / "list.txt").write_text(f"pictures/0.png{between}1\n\ntwo words.png{between}0\n")

    dataset = Dataset.from_table(folder / "list.txt").batch(2)

    assert dataset.compute(0)["label"].tolist() == [1, 0]
    assert dataset.names()[1] == f"{folder}/two words.png"


def test_lines_of_text_may_be_paths_alone(folder):
    (folder / "list.txt").write_text("pictures/0.png\npictures/1.png\n")

    assert list(Dataset.from_table(folder / "list.txt", labels=None).batch(2).spec) == ["image"]


def test_a_dict_of_lists_is_a_table(folder):
    table = {"path": pictures(3), "label": ["b", "a", "b"], "left": [1, 2, 3], "right": [0.5, 1, 2]}

    dataset = Dataset.from_table(table, labels={"label": "label", "x": ["left", "right"]}, root=folder).batch(3)

    assert dataset.class_names == ["a", "b"]
    assert dataset.compute(0)["x"].tolist() == [[1, 0.5], [2, 1], [3, 2]]


def test_a_pandas_frame_is_a_table(folder):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"file": pictures(3), "label": ["b", "a", "b"], "age": [1.0, 2.0, 3.0]})
    frame["kind"] = frame["label"].astype("category")
    labels = {"label": "label", "kind": "kind", "age": "age"}

    dataset = Dataset.from_table(frame[frame["age"] < 3], path="file", labels=labels, root=folder).batch(2)

    assert dataset.compute(0)["label"].tolist() == dataset.compute(0)["kind"].tolist() == [1, 0]
    assert dataset.compute(0)["age"].tolist() == [1, 2]
    with pytest.raises(DatasetError, match=r"'pictures/1.png' \(row 1, field 'label'\) is missing"):
        Dataset.from_table(frame.assign(label=["b", None, "a"]), path="file")
    with pytest.raises(DatasetError, match=r"'pictures/1.png' \(row 1, field 'label'\) is NaN"):
        Dataset.from_table(frame.assign(label=pandas.array([1, None, 2], "Int64")), path="file")
    with pytest.raises(DatasetError, match=r"there is no column 'lable'.*did you mean 'label'\?"):
        Dataset.from_table(frame, path="file", labels="lable")


@pytest.mark.parametrize(
    "text, labels, told",
    [
        (CSV.replace("label", "class"), "label", r"there is no column 'label' \(path= and labels= name columns"),
        (CSV.replace("path", "file"), "label", "there is no column 'path'"),
        (CSV.replace("1.png,cat", "1.png,"), "label", r"'pictures/1.png' \(row 1, field 'label'\) is missing"),
        (CSV.replace("1.5", "nan"), "size", r"'pictures/1.png' \(row 1, field 'label'\) is NaN"),
        (CSV.replace("cat,4,", "cat,"), "label", "line 3 has 3 cells, its first line 4"),
        (CSV.replace("age", "label"), "label", "two columns are named 'label'"),
        (CSV.replace("2.png", "1.png"), "label", "'pictures/1.png' is listed 2 times, in rows 1 and 2"),
        (CSV, ["age", "label"], r"column 'label' holds text \('cat'\), and the field 'label' is to be one array"),
        ("path,label\n", "label", "the list of files is empty"),
        ("", "label", "there is no column 'path'"),
        (CSV.replace("pictures/1.png", ""), "label", "column 'path', row 1: None, expected the path of a file"),
        (CSV.replace("0.png", "x.png"), "label", "1 of 3 files do not exist: 'pictures/x.png'"),
    ],
)
def test_a_csv_file_that_cannot_be_right_is_refused_by_name(folder, text, labels, told):
    (folder / "list.csv").write_text(text)

    with pytest.raises(DatasetError, match=told):
        everything(Dataset.from_table(folder / "list.csv", labels=labels))


@pytest.mark.parametrize(
    "text, labels, told",
    [
        ("a.png\n", "label", "list.txt': line 1 is 'a.png', expected a path and a label; or labels=None"),
        ("a.png\tb\tc\n", "label", "line 1 is 'a.png b c', expected a path and a label"),
        ("a.png 1\n", "age", "labels='age' names columns, which a file ending in .csv or .tsv has"),
    ],
)
def test_lines_that_cannot_be_right_are_refused_by_number(folder, text, labels, told):
    (folder / "list.txt").write_text(text)

    with pytest.raises(DatasetError, match=told):
        everything(Dataset.from_table(folder / "list.txt", labels=labels))


def test_a_table_that_is_missing_or_none_is_named(folder):
    with pytest.raises(DatasetError, match=r"table '.*/no.csv' cannot be read: No such file"):
        everything(Dataset.from_table(folder / "no.csv"))
    with pytest.raises(DatasetError, match="the table is int, expected the path of a CSV or text file, a frame"):
        Dataset.from_table(7)


def test_identifiers_with_underscores_are_text(folder):
    """Python reads 1_0 as ten: patients 1_0 and 10 would be one."""
    (folder / "list.csv").write_text("path,label\npictures/0.png,1_0\npictures/1.png,10\n")

    assert Dataset.from_table(folder / "list.csv").batch(2).class_names == ["10", "1_0"]


# -- from_paired_files --------------------------------------------------------------------------------------


@pytest.fixture
def pairs(tmp_path):
    """images/image_007.png with labels/label_007.npy, and six more."""
    (tmp_path / "labels").mkdir()
    for number in range(7):
        write_picture(tmp_path / f"images/image_{number:03}.png", np.full((4, 6, 3), number, np.uint8))
        np.save(tmp_path / f"labels/label_{number:03}.npy", np.full(2, 10 * number, np.float32))
    return tmp_path


def paired(folder, **more):
    return Dataset.from_paired_files(image=folder / "images/image_*.png", label=folder / "labels/label_*.npy", **more)


def test_files_are_paired_by_what_the_star_stands_for(pairs):
    dataset = paired(pairs).shuffle(1).batch(7)

    batch = dataset.compute(0)

    assert dataset.spec == {"image": FieldSpec((4, 6, 3), "uint8"), "label": FieldSpec((2,), "float32")}
    assert (batch["image"][:, 0, 0, 0] * 10).tolist() == batch["label"][:, 0].tolist()
    assert sorted(batch["label"][:, 0]) == [0, 10, 20, 30, 40, 50, 60]
    assert_same(batch, plain_batch(dataset, 0))
    assert dataset.names([2]) == [f"{pairs}/images/image_002.png"]


def test_other_files_do_not_matter(pairs):
    write_picture(pairs / "images/preview.png", gradient(4, 4))
    np.save(pairs / "labels/statistics.npy", np.zeros(3))

    assert paired(pairs).batch(1).samples == 7


def test_a_folder_may_be_what_files_have_in_common(tmp_path):
    for name in ("patient 1", "patient [2]"):
        write_picture(tmp_path / name / "scan.png", gradient(4, 4))
        np.save(tmp_path / name / "label.npy", np.zeros(3))

    dataset = Dataset.from_paired_files(image=tmp_path / "*/scan.png", label=tmp_path / "*/label.npy").batch(2)

    assert dataset.names() == [f"{tmp_path}/patient 1/scan.png", f"{tmp_path}/patient [2]/scan.png"]


def test_two_stars_span_folders(tmp_path):
    for name in ("bonn/1", "bonn/2", "ulm/old/1"):
        write_picture(tmp_path / f"images/{name}_image.png", gradient(4, 4))
        write_picture(tmp_path / f"masks/{name}_mask.png", np.ones((4, 4), np.uint8))

    dataset = Dataset.from_paired_files(
        image=tmp_path / "images/**/*_image.png", mask=tmp_path / "masks/**/*_mask.png"
    ).batch(3)

    assert [name.partition("images/")[2] for name in dataset.names()] == [
        "bonn/1_image.png",
        "bonn/2_image.png",
        "ulm/old/1_image.png",
    ]


def test_files_without_a_partner_are_counted_and_named(pairs):
    for number in (1, 3, 4, 5):
        (pairs / f"labels/label_00{number}.npy").unlink()
    (pairs / "images/image_006.png").unlink()

    with pytest.raises(DatasetError) as refused:
        everything(paired(pairs))

    assert str(refused.value) == (
        "files without a partner: 1 of 7 have none for the field 'image': '006' "
        f"(expected '{pairs}/images/image_006.png'); 4 of 7 have none for the field 'label': '001', '003', '004', ... "
        f"(expected '{pairs}/labels/label_001.npy'). Add what is missing, or list those that belong together: "
        "Dataset.from_files({field: [path, ...], ...})"
    )


@pytest.mark.parametrize("pattern", ["images/1.png", "images/*_*.png", "images/**.png"])
def test_a_pattern_needs_one_star(tmp_path, pattern):
    with pytest.raises(DatasetError, match=r"needs one \*, for what the files of a sample have in common"):
        Dataset.from_paired_files(image=tmp_path / pattern)


def test_a_pattern_without_files_is_named(pairs):
    with pytest.raises(DatasetError, match=r"no file matches the pattern of the field 'mask': '.*/masks/\*.png'"):
        everything(paired(pairs, mask=pairs / "masks/*.png"))


def test_pairs_of_no_fields_are_refused():
    with pytest.raises(DatasetError, match="paired_files: fields"):
        Dataset.from_paired_files()


def test_a_damaged_partner_is_named_too(pairs):
    (pairs / "labels/label_003.npy").write_bytes(b"\x93NUMPY")

    with pytest.raises(
        SampleError, match=rf"sample 3 \({pairs}/images/image_003.png\): label '{pairs}/labels/label_003.npy'"
    ):
        everything(paired(pairs))


# -- in a file ----------------------------------------------------------------------------------------------


def test_a_config_names_them_with_paths_beside_it(folder, pairs):
    (folder / "list.csv").write_text(CSV)
    batch = {"size": 2}
    config = {
        "flat": {"source": {"kind": "files", "path": "pictures"}, "batch": batch},
        "pattern": {"source": {"kind": "files", "path": "arrays/*.npy"}, "batch": batch},
        "table": {"source": {"kind": "table", "path": "list.csv", "labels": ["age", "size"]}, "batch": batch},
        "pairs": {
            "source": {
                "kind": "paired_files",
                "fields": {"image": "images/image_*.png", "label": "labels/label_*.npy"},
            },
            "batch": batch,
        },
    }

    found = {name: Dataset(one) for name, one in declare_all(config, folder / "service.toml").items()}

    assert {name: dataset.samples for name, dataset in found.items()} == {
        "flat": 5,
        "pattern": 5,
        "table": 3,
        "pairs": 7,
    }
    assert found["pairs"].key == paired(pairs).batch(2).key
    assert found["table"].key == Dataset.from_table(folder / "list.csv", labels=["age", "size"]).batch(2).key


@pytest.mark.parametrize(
    "source, told",
    [
        ({"kind": "files"}, "'path' is missing: a folder, or a pattern"),
        ({"kind": "files", "path": "a", "labels": [1]}, "labels cannot stand in a file.*Dataset.from_files"),
        ({"kind": "paired_files", "fields": {"image": "a.png"}}, r"needs one \*"),
        ({"kind": "table", "path": "a.csv", "lables": "b"}, "there is no key 'lables'; did you mean 'labels'?"),
    ],
)
def test_a_config_that_is_wrong_says_where(tmp_path, source, told):
    with pytest.raises(ConfigError, match=told):
        declare_all({"one": {"source": source, "batch": {"size": 1}}}, tmp_path / "service.toml")


class _Yields:
    """Garbage that lets another thread run when it is collected."""

    def __init__(self):
        self.itself = self

    def __del__(self):
        time.sleep(0.0005)


def test_several_threads_may_parse_headers_when_garbage_is_collected_meanwhile():
    """Where CPython counts how deep it is in a literal for all threads together, it finds one too deep for another."""
    file = io.BytesIO()
    np.save(file, np.zeros((4, 3, 5), np.float32))
    threshold = gc.get_threshold()

    def parse(_):
        for _ in range(300):
            _Yields()
            NpyHeader.parse(file.getvalue())

    gc.set_threshold(20)
    try:
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(parse, range(4))) == [None] * 4
    finally:
        gc.set_threshold(*threshold)
