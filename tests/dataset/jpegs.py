"""JPEGs of a real photograph, of every kind that cameras and programs write."""

import io
from functools import cache

import cv2
import numpy as np
import simplejpeg
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_image

PILLOW = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}
SIMPLEJPEG = {"4:4:0": "440", "4:1:1": "411"}
COMMON = (*PILLOW, *SIMPLEJPEG, "grey", "restarts", "optimized")  # whose parts can be decoded
RARE = ("progressive", "CMYK", "RGB", "no end")
KINDS = (*COMMON, *RARE)
SIZES = ((1, 1), (2, 3), (9, 17), (16, 16), (33, 40), (61, 50))


@cache
def photo(height, width):
    """Return the photograph in this size, uint8 (height, width, 3)."""
    return cv2.resize(load_sample_image("china.jpg"), (width, height), interpolation=cv2.INTER_AREA)


@cache
def jpeg(kind, height, width, quality=90):
    """Return the bytes of a file."""
    pixels = photo(height, width)
    if kind in SIMPLEJPEG:
        return simplejpeg.encode_jpeg(pixels, quality, "RGB", SIMPLEJPEG[kind])
    options = {
        "restarts": {"subsampling": 2, "restart_marker_blocks": 2},
        "optimized": {"subsampling": 2, "optimize": True},
        "progressive": {"progressive": True},
        "RGB": {"keep_rgb": True},
    }.get(kind, {"subsampling": PILLOW.get(kind, 2)})
    mode = {"grey": "L", "CMYK": "CMYK"}.get(kind, "RGB")
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", quality=quality, **options)
    encoded = file.getvalue()
    return encoded[:-2] if kind == "no end" else encoded


def decoded(encoded, color, shrink=1):
    """Return all pixels of a JPEG, scaled down by so much, as simplejpeg decodes them."""
    height, width = simplejpeg.decode_jpeg_header(encoded)[:2]
    sides = {"min_height": -(-height // shrink), "min_width": -(-width // shrink)} if shrink > 1 else {}
    return np.asarray(simplejpeg.decode_jpeg(encoded, color, **sides))


def windows(height, width):
    """Draw parts of a picture: top, left, height, width."""
    return st.tuples(st.integers(0, height - 1), st.integers(0, width - 1)).flatmap(
        lambda at: st.tuples(*map(st.just, at), st.integers(1, height - at[0]), st.integers(1, width - at[1]))
    )
