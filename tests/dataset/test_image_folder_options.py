"""Which classes of a folder are read, and in which colours: as `flow_from_directory` has them."""

import cv2
import numpy as np
import pytest
from PIL import Image

from loader_service import Dataset
from loader_service.protocol.errors import DatasetError
from tests.dataset.test_sources import everything

COLORS = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 4), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(("fern", "moss", "oak")):
        (tmp_path / name).mkdir()
        for file in "ab":
            Image.fromarray(COLORS[number]).save(tmp_path / name / f"{file}.png")
    return tmp_path


def test_classes_are_numbered_as_they_are_named_and_others_left_out(folder):
    dataset = Dataset.from_image_folder(folder, classes=["oak", "fern"], color="rgba").batch(4)

    batch = dataset.compute(0)

    assert dataset.class_names == ["oak", "fern"]
    assert batch["label"].tolist() == [0, 0, 1, 1]
    assert np.array_equal(batch["image"], COLORS[[2, 2, 0, 0]])


def test_without_classes_the_declaration_is_what_it_was(folder):
    assert "classes" not in Dataset.from_image_folder(folder).to_dict()["source"]


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        (["oak", "frn"], r"has no sub-folder 'frn', which is named in classes; did you mean 'fern'\?"),
        (["oak", "oak"], r"image_folder: classes: 'oak' is there twice: each class has one number"),
        ([], r"image_folder: classes: "),
    ],
)
def test_classes_that_cannot_be_are_refused(folder, classes, told):
    with pytest.raises(DatasetError, match=told):
        everything(Dataset.from_image_folder(folder, classes=classes))


@pytest.mark.parametrize("mode", ["RGBA", "RGB", "L", "P", "LA", "1"])
def test_a_picture_with_alpha_is_that_of_pillow(tmp_path, mode):
    (tmp_path / "any").mkdir()
    picture = Image.fromarray(COLORS[0])
    picture = picture.quantize(16) if mode == "P" else picture.convert(mode)
    picture.save(tmp_path / "any" / "a.png")

    image = everything(Dataset.from_image_folder(tmp_path, color="rgba"))["image"][0]

    with Image.open(tmp_path / "any" / "a.png") as opened:
        assert np.array_equal(image, opened.convert("RGBA"))


@pytest.mark.parametrize("file", ["a.jpg", "a.bmp"])
def test_where_a_file_has_no_alpha_it_is_opaque(tmp_path, file):
    (tmp_path / "any").mkdir()
    Image.fromarray(COLORS[0, :, :, :3]).save(tmp_path / "any" / file)
    colors = everything(Dataset.from_image_folder(tmp_path))["image"][0]

    image = everything(Dataset.from_image_folder(tmp_path, color="rgba"))["image"][0]

    assert np.array_equal(image[..., :3], colors)
    assert (image[..., 3] == 255).all()


def test_16_bits_of_alpha_become_8(tmp_path):
    (tmp_path / "any").mkdir()
    deep = COLORS[0].astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "any" / "a.png"), deep[..., [2, 1, 0, 3]])

    image = everything(Dataset.from_image_folder(tmp_path, color="rgba"))["image"][0]

    assert np.array_equal(image, COLORS[0])


def test_alpha_comes_from_lists_and_packs_of_files_too(folder, tmp_path):
    files = sorted(folder.glob("*/a.png"))
    listed = Dataset.from_files(files, root=folder, color="rgba")
    listed.pack(tmp_path / "packed.lsp", decode=True)

    for dataset in (listed, Dataset.from_pack(tmp_path / "packed.lsp")):
        assert np.array_equal(everything(dataset)["image"], COLORS)
