"""Parts of JPEGs are the same parts of the whole, to the bit; smaller ones are what libjpeg makes of all of it."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from loader_service import Dataset
from loader_service.dataset.sources import jpeg_region
from loader_service.dataset.sources.decoding import EncodedJpeg, decode_image, left_encoded
from loader_service.dataset.transforms.geometry import bilinear
from loader_service.dataset.transforms.geometry.moves import Cut, Mirror, Scale, Target
from loader_service.protocol.errors import DatasetError
from tests.dataset.jpegs import COMMON, KINDS, RARE, SIZES, decoded, jpeg, windows

NAMES = {"rgb": "RGB", "grayscale": "GRAY", "rgba": "RGBA"}
FRAMED_AS_COMMON = ("RGB", "no end")  # of the rare kinds: only decoding them tells
TOLERANCE = 4.0  # levels of 256, on average: what a smaller decoding may differ by
is_built = pytest.mark.skipif(jpeg_region.kernel() is None, reason="the kernel is not built here")


@pytest.fixture(params=[pytest.param("parts", marks=is_built), "whole"])
def way(request, monkeypatch):
    """With the kernel, and without."""
    if request.param == "whole":
        monkeypatch.setenv(jpeg_region.WHOLE, "1")
    jpeg_region.kernel.cache_clear()
    yield request.param
    jpeg_region.kernel.cache_clear()


def with_and_without_the_kernel(make, monkeypatch):
    """Return what is made either way."""
    made = []
    for whole in ("", "1"):
        monkeypatch.setenv(jpeg_region.WHOLE, whole)
        jpeg_region.kernel.cache_clear()
        made.append(make())
    jpeg_region.kernel.cache_clear()
    return made


@pytest.fixture
def album(tmp_path):
    """One class of JPEGs of all kinds, 90 x 120 pixels."""
    for number, kind in enumerate(KINDS[:-1]):
        (tmp_path / "album" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "album" / "a" / f"{number}.jpg").write_bytes(jpeg(kind, 90, 120))
    return tmp_path / "album"


@is_built
@pytest.mark.parametrize("kind", COMMON)
@pytest.mark.parametrize("color", NAMES)
@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_part_has_the_pixels_of_the_whole(kind, color, data):
    height, width = data.draw(st.sampled_from((*SIZES, (203, 330))))
    shrink = data.draw(st.sampled_from([1, 2, 4, 8] if min(height, width) >= 16 else [1]))
    encoded = jpeg(kind, height, width)
    whole = decoded(encoded, NAMES[color], shrink)
    top, left, rows, columns = data.draw(windows(*whole.shape[:2]))

    part = np.empty((rows, columns, whole.shape[2]), np.uint8)
    assert jpeg_region.kernel().region(encoded, shrink, top, left, part) is part

    assert np.array_equal(part, whole[top : top + rows, left : left + columns])


@is_built
@pytest.mark.skipif(bilinear.kernel() is None, reason="there is no kernel that scales, or no AVX2")
@pytest.mark.parametrize("kind", COMMON)
@pytest.mark.parametrize("color", ["rgb", "rgba"])
@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_part_that_is_scaled_as_it_is_decoded_is_the_part_scaled(kind, color, data):
    encoded = jpeg(kind, *data.draw(st.sampled_from((*SIZES, (203, 330)))))
    picture = decoded(encoded, NAMES[color])
    part, scale = data.draw(windows(*picture.shape[:2])), Scale(*data.draw(st.tuples(*[st.integers(1, 90)] * 2)))
    inner, mirror = Cut(*data.draw(windows(*scale))), Mirror(data.draw(st.booleans()), data.draw(st.booleans()))
    target = Target(scale, inner, mirror)
    top, left, height, width = part
    halvings = tuple(data.draw(st.sampled_from([n for n in range(4) if side >> n])) for side in (height, width))
    out = np.empty((inner.height, inner.width, picture.shape[2]), np.uint8)

    assert jpeg_region.kernel().scaled(encoded, part, (*halvings, *target.numbers), out) is out

    expected = picture[top : top + height, left : left + width]
    assert np.array_equal(out, bilinear.scaled_bilinearly(expected, target, None, halvings))


@is_built
@pytest.mark.parametrize("kind", RARE)
def test_rare_kinds_and_cut_off_files_are_left_to_the_whole_way(kind):
    encoded, decoder = jpeg(kind, 33, 40), jpeg_region.kernel()

    assert decoder.size(encoded) == ((33, 40) if kind in FRAMED_AS_COMMON else None)
    assert decoder.region(encoded, 1, 0, 0, np.empty((33, 40, 3), np.uint8)) is None


@is_built
@given(st.integers(0, 2**30), st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_a_damaged_file_gives_the_same_pixels_or_the_same_error(seed, count):
    """Where the kernel refuses, the whole is decoded, and its sentence is what people read."""
    rng = np.random.default_rng(seed)
    damaged = np.frombuffer(jpeg("4:2:0", 61, 50), np.uint8).copy()
    damaged[rng.integers(3, len(damaged), count)] = rng.integers(0, 256, count)
    encoded = damaged.tobytes()
    try:
        plain = simplejpeg.decode_jpeg(encoded, "RGB", strict=True)
    except ValueError:
        plain = None
    try:
        whole = decode_image(encoded, "rgb")
        assert plain is None or np.array_equal(whole, plain)
    except DatasetError as error:
        assert plain is None
        whole, sentence = None, str(error)
    try:
        picture = left_encoded(encoded, "rgb", shrinks=False)
        height, width = picture.shape[:2]
        part = picture.decode(0, 0, height, width // 2 or 1) if isinstance(picture, EncodedJpeg) else picture
    except DatasetError as error:
        assert whole is None
        assert str(error) == sentence
    else:
        if whole is not None:
            assert np.array_equal(part, whole[:, : part.shape[1]])


@is_built
@given(st.integers(1, 100), st.sampled_from([1, 8]), st.integers(0, 2**32), st.data())
@settings(max_examples=60, deadline=None)
def test_codes_that_a_file_has_for_itself_are_skipped_as_they_are_read(quality, shrink, seed, data):
    """Those of a code that was seen before are skipped several at a time: at first they are not."""
    file = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (120, 90, 3), np.uint8)
    Image.fromarray(noise).save(file, "JPEG", quality=quality, optimize=True)
    whole = decoded(file.getvalue(), "RGB", shrink)
    top, left, rows, columns = data.draw(windows(*whole.shape[:2]))

    for _ in range(3):
        part = np.empty((rows, columns, 3), np.uint8)
        assert jpeg_region.kernel().region(file.getvalue(), shrink, top, left, part) is part
        assert np.array_equal(part, whole[top : top + rows, left : left + columns])


@is_built
@pytest.mark.parametrize("more", [b"\x00", b"\x12\x34\x56", b"\xff\x00\x01", b"\xff"])
def test_what_stands_between_the_last_pixel_and_the_end_is_seen_where_all_is_decoded(more):
    encoded = jpeg("4:2:0", 61, 50)
    damaged = encoded[:-2] + more + encoded[-2:]
    region = jpeg_region.kernel().region

    assert region(encoded, 1, 0, 0, np.empty((61, 50, 3), np.uint8)) is not None
    assert region(damaged, 1, 0, 0, np.empty((60, 50, 3), np.uint8)) is not None
    as_plain = region(damaged, 1, 0, 0, np.empty((61, 50, 3), np.uint8)) is None
    assert as_plain == (more != b"\xff")  # which may stand before every marker


@is_built
@pytest.mark.parametrize("quality", [1, 20, 60, 99, 100])
@pytest.mark.parametrize("optimize", [False, True])
def test_codes_of_every_length_are_read(quality, optimize):
    """Noise in all coefficients, as large as they may be: codes up to 16 bits, and numbers up to 11."""
    rng = np.random.default_rng(quality)
    noise = np.where(rng.random((200, 200, 3)) < 0.5, 0, 255) * (np.arange(200)[:, None, None] > rng.integers(50, 150))
    file = io.BytesIO()
    Image.fromarray(noise.astype(np.uint8)).save(file, "JPEG", quality=quality, optimize=optimize, subsampling=0)
    whole = np.empty((200, 200, 3), np.uint8)

    assert jpeg_region.kernel().region(file.getvalue(), 1, 0, 0, whole) is whole
    assert np.array_equal(whole, simplejpeg.decode_jpeg(file.getvalue(), "RGB"))


@is_built
def test_memory_that_is_no_bytes_object_is_read_as_well():
    """As a pack hands it out."""
    encoded = jpeg("4:2:0", 61, 50)
    picture = left_encoded(memoryview(bytearray(encoded)), "rgb", shrinks=False)

    assert np.array_equal(picture.decode(20, 10, 7, 9), decoded(encoded, "RGB")[20:27, 10:19])


CHAINS = {
    "random_resized_crop": lambda photos: photos.random_resized_crop(24, 20).random_flip(),
    "random_crop": lambda photos: photos.random_crop(40, 30).random_flip(vertical=0.5),
    "center_crop": lambda photos: photos.center_crop(40, 30),
    "flip before": lambda photos: photos.random_flip().random_crop(40, 30),
    "warp behind": lambda photos: photos.random_crop(60, 60).random_rotate(20),
    "resize": lambda photos: photos.resize(20, 20).random_flip(),
    "resize, center_crop": lambda photos: photos.resize(70, 80).center_crop(50, 60),
    "resize, random_crop": lambda photos: photos.resize(64, 61).random_crop(40, 30).random_flip(vertical=0.5),
    "pad": lambda photos: photos.pad_image(4).random_crop(40, 30),
}


@is_built
@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("cached", [False, True])
def test_batches_are_the_same_without_the_kernel_and_with_a_cache(chain, cached, album, tmp_path, monkeypatch):
    def batches():
        photos = Dataset.from_image_folder(album)
        photos = CHAINS[chain](photos.cache(path=tmp_path / "cache") if cached else photos)
        return np.concatenate([photos.shuffle(seed=3).batch(6).compute(n)["image"] for n in range(4)])

    assert np.array_equal(*with_and_without_the_kernel(batches, monkeypatch))


def test_masks_and_boxes_follow_a_picture_of_which_a_part_is_decoded(way, tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "images" / "1.jpg").write_bytes(jpeg("4:2:0", 90, 120))
    (tmp_path / "masks" / "1.png").write_bytes(_png(decoded(jpeg("4:2:0", 90, 120), "GRAY")))
    pairs = Dataset.from_paired_files(
        image=tmp_path / "images" / "*.jpg", mask=tmp_path / "masks" / "*.png", color="grayscale"
    )
    crops = pairs.follow(masks="mask").random_crop(32, 40).shuffle(seed=5).batch(1)

    for n in range(6):
        batch = crops.compute(n)
        assert np.array_equal(batch["image"], batch["mask"])


def _png(pixels):
    import cv2

    return cv2.imencode(".png", pixels)[1].tobytes()


def test_pictures_that_shrink_on_load_are_about_those_that_do_not(way, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(jpeg("4:2:0", 427, 640))

    def crops(**options):
        photos = Dataset.from_image_folder(tmp_path, **options)
        photos = photos.random_resized_crop(40, 40, scale=(0.3, 1)).random_flip().shuffle(seed=2).batch(1)
        return np.concatenate([photos.compute(n)["image"] for n in range(8)]).astype(int)

    off = np.abs(crops(shrink_on_load=True) - crops())

    assert 0 < off.mean() < TOLERANCE


def test_pictures_that_shrink_on_load_are_the_same_with_the_kernel_and_without(album, monkeypatch):
    def batch():
        photos = Dataset.from_image_folder(album, shrink_on_load=True).random_resized_crop(12, 14).random_flip()
        return photos.shuffle(seed=3).batch(len(KINDS) - 1).compute(1)["image"]

    assert np.array_equal(*with_and_without_the_kernel(batch, monkeypatch))


def test_a_cache_of_whole_pictures_refuses_those_that_shrink(album, tmp_path):
    photos = Dataset.from_image_folder(album, shrink_on_load=True)

    with pytest.raises(DatasetError, match=r"shrink_on_load decodes smaller ones for random_resized_crop"):
        photos.cache(path=tmp_path / "cache").random_resized_crop(12, 14).batch(2).compute(0)


def test_a_cache_behind_a_resize_keeps_what_shrinks(album, tmp_path):
    photos = Dataset.from_image_folder(album, shrink_on_load=True).resize(20, 30)
    plain, cached = photos.batch(4), photos.cache(path=tmp_path / "cache").batch(4)

    assert np.array_equal(plain.compute(0)["image"], cached.compute(0)["image"])


@pytest.mark.parametrize("options", [{}, {"shrink_on_load": True}, {"color": "grayscale"}])
@pytest.mark.parametrize("size", [(70, 80), (130, 125), (30, 40)])
def test_a_cache_behind_a_resize_changes_nothing_of_what_is_cut_out_of_it(way, album, tmp_path, options, size):
    photos = Dataset.from_image_folder(album, **options).resize(*size)

    plain, cached = (
        each.random_crop(24, 28).random_flip().shuffle(seed=3).batch(5)
        for each in (photos, photos.cache(path=tmp_path / "cache"))
    )

    for n in range(4):
        assert np.array_equal(plain.compute(n)["image"], cached.compute(n)["image"])


def test_nothing_that_is_not_wanted_is_in_a_key(album):
    photos = Dataset.from_image_folder(album)

    assert "shrink_on_load" not in photos.declaration.to_plain()["source"]
    assert photos.batch(2).key != Dataset.from_image_folder(album, shrink_on_load=True).batch(2).key


def test_explain_says_what_is_decoded(way, album):
    told = str(Dataset.from_image_folder(album).random_resized_crop(12, 14).batch(2).explain())

    assert ("decodes only the part of a JPEG that it shows" in told) == (way == "parts")
    assert ("decodes all of each JPEG" in told) == (way == "whole")
    assert "with shrink_on_load=True, its source would decode JPEGs at 1/4" in told


def test_explain_says_that_a_part_of_a_scaled_picture_is_decoded_alone(way, album):
    def told(**options):
        return str(Dataset.from_image_folder(album, **options).resize(70, 80).center_crop(50, 60).batch(2).explain())

    in_part = "decodes only the part of a JPEG that it shows"
    assert (in_part in told()) == (way == "parts" and bilinear.kernel() is not None)
    assert in_part not in told(color="grayscale")  # which OpenCV scales
    assert in_part not in told(shrink_on_load=True)  # which decodes by itself


def test_explain_says_at_what_size_a_jpeg_is_decoded(way, album):
    told = str(Dataset.from_image_folder(album, shrink_on_load=True).resize(12, 14).batch(2).explain())

    assert "decodes JPEGs at 1/4 of their size" in told


@is_built
def test_nothing_is_printed_about_damage(tmp_path):
    """libjpeg prints on stderr, unless it is told not to."""
    (tmp_path / "damaged.jpg").write_bytes(jpeg("4:2:0", 61, 50)[:-200] + bytes(100) + b"\xff\xd9")
    code = (
        "import numpy as np; from loader_service.dataset.sources.jpeg_region import kernel\n"
        f"encoded = open({str(tmp_path / 'damaged.jpg')!r}, 'rb').read()\n"
        "print(kernel().region(encoded, 1, 10, 0, np.empty((51, 50, 3), np.uint8)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])

    assert (ran.stdout, ran.stderr) == ("None\n", "")
