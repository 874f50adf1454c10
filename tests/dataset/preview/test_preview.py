"""Contact sheets: their samples are those of batches, and what is drawn can be found in the picture."""

import cv2
import numpy as np
import pytest

from loader_service.dataset.dataset import Dataset
from loader_service.dataset.preview import looks
from loader_service.dataset.preview.drawing import MASK_PALETTE, ODD, PALETTE, draw
from loader_service.dataset.preview.page import paint
from loader_service.protocol.errors import DatasetError, SampleError
from tests.dataset.conftest import gradient, write_picture


def cells_of(preview, sample=0, line=0):
    return preview.sheet.strips[sample].cells[line]


def pixels_of(picture):
    return {tuple(color) for color in np.unique(picture.reshape(-1, 3), axis=0).tolist()}


# -- which samples --------------------------------------------------------------------------------------------


def test_the_first_column_of_an_epoch_holds_the_rows_of_its_batches(photos):
    dataset = Dataset.from_image_folder(photos).random_resized_crop(12, 12).random_flip().shuffle(seed=3).batch(2)

    preview = dataset.preview(4, epoch=5)

    first = 5 * dataset.batches_per_epoch
    rows = np.concatenate([dataset.compute(n)["image"] for n in (first, first + 1)])
    assert preview.sheet.headings == ["original", "epoch 5", "epoch 6", "epoch 7", "epoch 8"]
    for sample, row in enumerate(rows):
        assert np.array_equal(cells_of(preview, sample)[1].value, row)


def test_each_line_shows_one_sample_with_the_random_numbers_of_several_epochs(photos):
    preview = Dataset.from_image_folder(photos).random_crop(10, 10).shuffle(seed=3).batch(2).preview(3, epochs=3)

    for sample in range(3):
        original, *made = (cell.value for cell in cells_of(preview, sample))
        windows = np.lib.stride_tricks.sliding_window_view(original, (10, 10, 3))[..., 0, :, :, :]
        assert all((windows == value).all(axis=(2, 3, 4)).any() for value in made)
    assert len({cell.value.tobytes() for cell in cells_of(preview)[1:]}) > 1


def test_the_original_is_what_the_source_has(photos):
    preview = Dataset.from_image_folder(photos).resize(8, 8).rescale(1 / 255).batch(2).preview(1)

    original, made = cells_of(preview)
    assert np.array_equal(original.value, gradient(20, 30, 0))
    assert (made.value.shape, made.value.dtype) == ((8, 8, 3), np.float32)


def test_where_nothing_is_random_all_epochs_share_one_column(photos):
    assert Dataset.from_image_folder(photos).resize(8, 8).batch(2).preview(2).sheet.headings == [
        "original",
        "every epoch",
    ]


def test_where_no_step_changes_anything_there_is_one_column():
    preview = Dataset.from_arrays(x=np.zeros((9, 8, 8, 3), "uint8")).batch(2).preview(7)

    assert preview.sheet.headings == ["as it is"]
    assert [len(strip.cells[0]) for strip in preview.sheet.strips] == [1] * 7
    assert preview.picture.shape[1] > 5 * 160  # beside one another


def test_a_seed_shows_others_in_another_order(photos):
    dataset = Dataset.from_image_folder(photos).random_crop(10, 10).batch(2)

    ids = [[strip.id for strip in dataset.preview(7, seed=seed).sheet.strips] for seed in (1, 1, 2)]

    assert ids[0] == ids[1] != ids[2]
    assert sorted(ids[0]) == list(range(7))


def test_a_dataset_needs_no_batches_to_be_looked_at(photos):
    assert len(Dataset.from_image_folder(photos).random_crop(9, 9).preview(2).sheet.strips) == 2


def test_samples_of_short_batches_of_buckets_are_found():
    rows = [np.arange(length) for length in (3, 9, 4, 9, 9, 3, 2)]
    dataset = Dataset.from_arrays(x=rows).bucket_by_length("x", [5]).pad("x", "bucket", most=12).batch(3)

    preview = dataset.preview(7)

    assert sorted(strip.id for strip in preview.sheet.strips) == list(range(7))


def test_a_bad_sample_is_named_and_where_others_take_its_place_they_are_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for number in range(4):
        write_picture(tmp_path / f"photos/cats/{number}.png", gradient(9, 9, number))
    (tmp_path / "photos/cats/2.png").write_bytes(b"no picture")
    dataset = Dataset.from_image_folder(tmp_path / "photos").random_flip().batch(2)

    with pytest.raises(SampleError, match=r"2\.png"):
        dataset.preview(4)
    assert 2 not in [strip.id for strip in dataset.on_error("replace").preview(4).sheet.strips]


def test_live_samples_are_held_and_made_in_several_epochs(user_module):
    module = user_module(
        "import numpy as np\n"
        "def numbers():\n    yield from ({'x': np.full((9, 9, 1), k, 'uint8'), 'y': k} for k in range(40, 80))\n"
        "def noise(sample, rng):\n    return {**sample, 'x': sample['x'] + rng.integers(0, 9, (9, 9, 1), 'uint8')}\n"
    )

    preview = Dataset.from_generator(f"{module}:numbers", samples=40).map(f"{module}:noise").batch(4).preview(3)

    assert [cells_of(preview, sample)[0].value.max() for sample in range(3)] == [40, 41, 42]
    assert len({cell.value.tobytes() for cell in cells_of(preview)}) == 5
    assert "3 of 40 samples" in preview.sheet.title


def test_of_a_sequence_rows_of_batches_are_shown(user_module):
    module = user_module(
        "import numpy as np\nclass Batches:\n    def __len__(self):\n        return 3\n"
        "    def __getitem__(self, i):\n        return np.full((4, 9, 9, 3), 10 * i, 'uint8'), np.arange(4)\n"
    )
    dataset = Dataset.from_keras(f"{module}:Batches")

    preview = dataset.preview(6)

    assert [strip.title for strip in preview.sheet.strips][3:5] == ["batch 0, row 3", "batch 1, row 0"]
    assert cells_of(preview, 5)[0].value.max() == 10
    assert cells_of(preview, 5)[0].labels == ["y 1"]
    assert len(dataset.preview(13).sheet.strips) == 12


def test_map_batch_is_given_the_samples_of_the_sheet(user_module):
    module = user_module("def swap(batch):\n    return {**batch, 'x': batch['x'][::-1]}\n")
    x = np.arange(4, dtype="uint8")[:, None, None, None] * np.full((9, 9, 3), 40, "uint8")

    preview = Dataset.from_arrays(x=x).map_batch(f"{module}:swap").batch(2).preview(3)

    assert [cells_of(preview, sample)[1].value.max() for sample in range(3)] == [80, 40, 0]
    assert "map_batch was given these 3 samples as a batch" in preview.sheet.notes


def test_parts_of_several_sources_show_their_own_originals():
    x = np.arange(6, dtype="uint8")[:, None, None, None] * np.full((16, 16, 1), 40, "uint8")
    first, second = Dataset.from_arrays(x=x[:3]), Dataset.from_arrays(x=x[3:]).map(lambda sample: sample)

    preview = Dataset.concat(first, second).random_crop(8, 8, field="x").batch(3).preview(6, epochs=2)

    assert [cells_of(preview, sample)[0].value.max() for sample in range(6)] == [0, 40, 80, 120, 160, 200]


# -- what is drawn --------------------------------------------------------------------------------------------


def test_a_label_is_the_name_of_its_class_and_the_file_is_told(photos):
    preview = Dataset.from_image_folder(photos).random_crop(9, 9).one_hot("label", 2).batch(2).preview(6)

    assert [cells_of(preview, sample)[1].labels for sample in (0, 5)] == [["cats"], ["dogs"]]
    assert preview.sheet.strips[0].title == "0   cats/a.png"
    assert cells_of(preview)[1].facts == ["image: uint8 9x9x3", str(cells_of(preview)[1].found)]


def test_a_mask_is_laid_over_its_picture_in_a_colour_for_each_class():
    image, mask = np.full((3, 20, 20, 3), 128, "uint8"), np.zeros((3, 20, 20, 1), "uint8")
    mask[:, 2:8, 2:8] = 1
    mask[:, 12:, 12:] = 2

    preview = Dataset.from_arrays(image=image, mask=mask).random_flip().batch(3).preview(1)

    (line,) = preview.sheet.strips[0].cells
    tile = draw(line[0], 160)
    for color in MASK_PALETTE[:2]:
        assert tuple(round((channel + 128) / 2) for channel in color) in pixels_of(tile)
    assert tuple(tile[150, 20]) == (128, 128, 128)
    assert preview.sheet.legend == [1, 2]
    assert line[0].facts[-1] == "mask: 0, 1, 2"


def test_a_mask_that_is_asked_for_is_drawn_itself():
    image, mask = np.full((3, 20, 20, 3), 128, "uint8"), np.eye(20, dtype="uint8")[None, :, :, None].repeat(3, 0)

    (line,) = Dataset.from_arrays(image=image, mask=mask).preview(1, field="mask").sheet.strips[0].cells

    assert (line[0].field, line[0].mask) == ("mask", None)
    assert pixels_of(draw(line[0], 160)) == {(0, 0, 0), (255, 255, 255)}


def test_the_mask_of_a_volume_lies_over_its_slices():
    x, y = np.zeros((9, 10, 11), "float32"), np.zeros((9, 10, 11), "uint8")
    x[0] = 1
    y[:, :, 8:] = 1

    preview = Dataset.from_volumes([x], y=[y]).random_patch((8, 8, 8), field=("x", "y")).preview(1)

    original = cells_of(preview)[0]
    assert (original.kind, original.mask.shape) == ("planes", (9, 10, 11))
    assert MASK_PALETTE[0] in pixels_of(draw(original, 400))  # its outline
    assert "middle slices" in original.facts[1]


def test_of_a_large_volume_only_what_is_drawn_is_read(monkeypatch, tmp_path):
    """It is mapped from a file that may be larger than memory."""
    monkeypatch.setattr(looks, "MOST_SEEN", 500)
    x = np.zeros((9, 10, 11), "float32")
    x[0, 0, 0], x[4, 1, 1] = 7, 3
    np.save(tmp_path / "x.npy", x)
    y = np.zeros(x.shape, "uint8")
    y[0, 0, 0], y[4, 1, 1] = 2, 1
    np.save(tmp_path / "y.npy", y)

    preview = Dataset.from_volumes([tmp_path / "x.npy"], y=[tmp_path / "y.npy"]).preview(1)

    assert cells_of(preview)[0].facts == ["x: float32 9x10x11", "0 .. 3 in the middle slices", "y: 0, 1"]


def test_floats_are_drawn_by_their_range_and_it_is_said():
    x = np.linspace(-3, 5, 64, dtype="float32").reshape(1, 8, 8, 1)

    preview = Dataset.from_arrays(x=x).preview(1)

    tile = draw(cells_of(preview)[0], 160)
    assert (tile.min(), tile.max()) == (0, 255)
    assert preview.sheet.notes == ["x: float32, drawn from -3 (black) to 5 (white)"]
    assert cells_of(preview)[0].facts == ["x: float32 8x8x1", "-3 .. 5"]


def test_samples_of_one_sheet_share_their_range():
    """One that is brighter than another looks brighter."""
    x = np.stack([np.full((8, 8, 1), value, "float32") for value in (-2.0, 0.0, 2.0)])

    preview = Dataset.from_arrays(x=x).preview(3)

    assert [draw(cells_of(preview, sample)[0], 160).max() for sample in range(3)] == [0, 128, 255]


def test_one_channel_is_grey_and_the_fourth_says_how_opaque_it_is():
    grey = Dataset.from_arrays(x=np.arange(0, 256, 4, dtype="uint8").reshape(1, 8, 8, 1)).preview(1)
    image = np.zeros((1, 20, 20, 4), "uint8")
    image[:, :, :10] = (255, 0, 0, 255)

    tile = draw(cells_of(Dataset.from_arrays(image=image).preview(1))[0], 160)

    assert all(len(set(color)) == 1 for color in pixels_of(draw(cells_of(grey)[0], 160)))
    assert pixels_of(tile) == {(255, 0, 0), (204, 204, 204), (255, 255, 255)}


def test_what_is_not_finite_is_magenta_and_counted():
    x = np.zeros((1, 8, 8, 1), "float32")
    x[0, 0, 0], x[0, 0, 1], x[0, 4] = np.nan, np.inf, 1

    preview = Dataset.from_arrays(x=x).preview(1)

    assert ODD in pixels_of(draw(cells_of(preview)[0], 160))
    assert cells_of(preview)[0].facts[1] == "0 .. 1, 2 NaN or inf"


def test_windows_of_a_series_are_lines_and_vectors_are_bars():
    series = np.stack([np.sin(np.arange(300) / 9), np.cos(np.arange(300) / 9)], axis=1)
    windows = Dataset.from_series(series, series[:, 0], length=50, offset=50, target_length=5).preview(2)
    vectors = Dataset.from_arrays(x=np.arange(20.0).reshape(4, 5)).preview(2)

    assert [line[0].kind for line in windows.sheet.strips[0].cells] == ["lines", "lines"]
    assert set(PALETTE[:2]) <= pixels_of(draw(cells_of(windows)[0], 160))
    assert cells_of(vectors)[0].kind == "bars"
    assert PALETTE[0] in pixels_of(draw(cells_of(vectors)[0], 160))


def test_a_long_line_keeps_its_extremes():
    x = np.zeros((1, 100_000), "float32")
    x[0, 777] = 1

    tile = draw(cells_of(Dataset.from_arrays(x=x).preview(1))[0], 160)

    assert tile[4:40, 2:-2].min() < 100


def test_several_inputs_have_a_line_each():
    fields = {"left": np.zeros((3, 8, 8, 3), "uint8"), "right": np.zeros((3, 12)), "y": np.arange(3)}

    preview = Dataset.from_arrays(**fields).preview(2)

    assert [line[0].field for line in preview.sheet.strips[0].cells] == ["left", "right"]
    assert [line[0].labels for line in preview.sheet.strips[0].cells] == [["y 0"], []]


def test_a_field_that_a_step_makes_stands_below_with_a_gap_above_the_original(user_module):
    module = user_module("def add(sample):\n    return {**sample, 'edges': sample['image'][:, ::2]}\n")
    dataset = Dataset.from_arrays(image=np.zeros((3, 8, 8, 3), "uint8")).map(f"{module}:add")

    first, second = dataset.preview(1).sheet.strips[0].cells

    assert [cell.field for cell in first] == ["image", "image"]
    assert (second[0], second[1].field) == (None, "edges")


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int64", "bool", "float16", "float32", "float64"])
@pytest.mark.parametrize(
    "shape", [(1, 400, 3), (300, 2, 1), (9, 9, 4), (9, 9), (5, 6, 7), (3, 9, 9), (4, 8, 8, 3), (7,)]
)
def test_pictures_of_every_dtype_and_shape_can_be_drawn(dtype, shape):
    x = np.random.default_rng(0).random((2, *shape)) * 200

    picture = Dataset.from_arrays(x=x.astype(dtype)).preview(2).picture

    assert (picture.dtype, picture.shape[2]) == (np.uint8, 3)


# -- what comes of it -----------------------------------------------------------------------------------------


def test_a_sheet_is_written_as_its_name_says(tmp_path, photos):
    preview = Dataset.from_image_folder(photos).random_crop(9, 9).preview(2)

    for name in ("a.png", "b.jpg", "c.webp", "D.PNG"):
        preview.save(tmp_path / name)
        assert cv2.imread(str(tmp_path / name)).shape == preview.picture.shape
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], paint(preview.sheet))


def test_a_notebook_shows_a_sheet_with_its_labels_as_text(photos):
    preview = Dataset.from_image_folder(photos).random_crop(9, 9).preview(1)

    page = preview._repr_html_()

    assert "data:image/png;base64," in page
    assert "cats/a.png: cats; image: uint8" in page
    assert preview._repr_png_().startswith(b"\x89PNG")
    assert "Preview of 1 samples" in repr(preview)


def test_names_from_outside_are_escaped_in_a_page(tmp_path):
    write_picture(tmp_path / "photos/<b>cats/a.png", gradient(9, 9))

    assert "<b>cats" not in Dataset.from_image_folder(tmp_path / "photos").preview(1)._repr_html_()


def test_of_fewer_samples_than_are_asked_for_all_are_shown(photos):
    shown = Dataset.from_image_folder(photos).resize(9, 9).batch(2).preview(n=8)

    assert shown.sheet.title == "7 of 7 samples, in the order of the source"
    assert len(shown.sheet.strips) == 7


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"n": 0}, "n is 0, expected a whole number from 1 to 100"),
        ({"n": 101}, "n is 101, expected"),
        ({"n": 2.5}, "n is 2.5, expected"),
        ({"epoch": -1}, "epoch is -1"),
        ({"epochs": 0}, "epochs is 0"),
        ({"seed": -4}, "seed is -4"),
        ({"field": "imaeg"}, "there is no field 'imaeg'; did you mean 'image'"),
        ({"field": ["image", "label"]}, r"label: int64 \(\): there is nothing in it to draw"),
    ],
)
def test_what_cannot_be_shown_is_told(photos, options, told):
    dataset = Dataset.from_image_folder(photos).random_crop(9, 9).batch(2)

    with pytest.raises(DatasetError, match=told):
        dataset.preview(**options)


def test_a_dataset_without_anything_to_draw_is_told():
    with pytest.raises(DatasetError, match=r"nothing to draw in x: float64 \(\), y: int64 \(\): expected a picture"):
        Dataset.from_arrays(x=np.zeros(4), y=np.arange(4)).preview(2)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nowhere/a.png", "there is no folder"),
        ("a.gif", r"expected a name that ends in \.png, \.jpg, \.jpeg, \.webp"),
        ("a", "expected a name that ends in"),
        ("folder.png", "is a folder"),
    ],
)
def test_where_a_sheet_cannot_be_written_is_told(tmp_path, name, told):
    (tmp_path / "folder.png").mkdir()

    with pytest.raises(DatasetError, match=told):
        Dataset.from_arrays(x=np.zeros((4, 8, 8, 3), "uint8")).preview(1).save(tmp_path / name)


def test_a_disk_without_room_is_told():
    preview = Dataset.from_arrays(x=np.zeros((4, 8, 8, 3), "uint8")).preview(1)

    with pytest.raises(DatasetError, match="cannot be written: "):
        preview.save("/proc/a.png")
