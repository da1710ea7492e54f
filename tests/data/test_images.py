"""Every kind of image file that people have, and every way in which one can be broken."""

import struct
import zlib

import numpy as np
import pytest
from pictures import jpeg, saved, smooth
from PIL import Image

from data import images

RGB = np.asarray(smooth())


def near(array: np.ndarray, expected: np.ndarray, mean: float = 3.0) -> bool:
    assert array.dtype == np.uint8 and array.shape == expected.shape
    return np.abs(array.astype(int) - expected.astype(int)).mean() < mean


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_usual_formats_give_the_same_picture(kind):
    assert near(images.decode(saved(smooth(), kind)), RGB, mean=8 if kind == "GIF" else 3)


def test_grey_palette_cmyk_and_sixteen_bits_become_rgb():
    grey = np.asarray(smooth().convert("L"))
    grey3 = np.repeat(grey[..., None], 3, axis=2)
    for kind in ("JPEG", "PNG"):
        assert near(images.decode(saved(smooth().convert("L"), kind)), grey3)
    assert near(images.decode(saved(smooth().quantize(256), "PNG")), RGB)
    assert near(images.decode(saved(smooth().convert("CMYK"), "JPEG", quality=95)), RGB)
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert near(images.decode(saved(deep, "PNG")), grey3, mean=0.01)
    ones = Image.fromarray(grey > 127)
    assert set(np.unique(images.decode(saved(ones, "PNG")))) <= {0, 255}


def test_transparent_parts_are_white():
    image = smooth().convert("RGBA")
    image.putalpha(
        Image.fromarray(np.where(np.arange(40) < 20, 255, 0)[None].repeat(30, 0).astype("u1"))
    )
    for kind in ("PNG", "WEBP"):
        array = images.decode(saved(image, kind))
        assert near(array[:, :18], RGB[:, :18]) and (array[:, 22:] > 250).all()
    palette = smooth().quantize(8)
    palette.info["transparency"] = 0
    array = images.decode(saved(palette, "PNG", transparency=0))
    assert (array[np.asarray(palette) == 0] == 255).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_exif_turns_the_picture_upright(kind, mode):
    if mode == "CMYK" and kind != "JPEG":
        pytest.skip("only JPEG stores CMYK")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    data = saved(
        smooth().convert(mode), kind, exif=exif, **({"quality": 95} if kind != "PNG" else {})
    )
    assert near(images.decode(data), np.rot90(RGB, -1))


def test_large_jpegs_are_decoded_small_but_never_below_the_size_asked_for():
    data = jpeg(width=800, height=400)
    assert images.decode(data).shape == (400, 800, 3)
    assert images.decode(data, at_least=100).shape == (100, 200, 3)
    assert images.decode(data, at_least=101).shape == (200, 400, 3)
    assert near(images.decode(data, at_least=100), np.asarray(smooth(0, 200, 100)))


def bomb() -> bytes:
    """A PNG of 20 000 x 20 000 pixels in a few bytes: only its header is true."""
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


BROKEN = {
    "empty": (b"", "empty"),
    "text": (b"<html>404</html>" * 9, "not an image file"),
    "cut jpeg": (jpeg(width=200)[:900], "damaged"),
    "cut in the header": (jpeg()[:30], "not an image file|damaged"),
    "cut png": (saved(smooth(), "PNG")[:120], "damaged"),
    "cut webp": (saved(smooth(), "WEBP")[:60], "not an image file|damaged"),
    "bomb": (bomb(), "more pixels|more than the limit"),
    "zeroed": (saved(smooth(), "PNG")[:50] + bytes(500), "damaged"),
}
if "AVIF" in images.FORMATS:
    BROKEN["lost avif"] = (saved(smooth(), "AVIF").replace(b"iloc", b"free"), "damaged")


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_one_sentence_that_names_the_origin(name):
    data, words = BROKEN[name]
    with pytest.raises(ValueError, match=rf"^captions\.txt:7: .*({words})") as caught:
        images.decode(data, "captions.txt:7")
    assert "\n" not in str(caught.value)


def test_pixel_limit_is_ours(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 40 * 30 - 1)
    with pytest.raises(ValueError, match="40 x 30 pixels"):
        images.decode(jpeg())


def test_views():
    image = np.asarray(smooth(3, 64, 48))
    rng = np.random.default_rng
    whole, mirrored = (images.view(image, 32, k, rng(0)) for k in (0, 1))
    assert whole.shape == (32, 32, 3) and whole.dtype == np.uint8
    assert np.array_equal(mirrored, whole[:, ::-1])
    crop, mirrored = (images.view(image, 32, k, rng(7)) for k in (2, 3))
    assert np.array_equal(mirrored, crop[:, ::-1]) and not np.array_equal(crop, whole)
    assert np.array_equal(crop, images.view(image, 32, 2, rng(7)))
    for seed in range(50):
        h, w = images.crop(image, rng(seed)).shape[:2]
        assert 0.4 < h * w / (64 * 48) <= 1 and 0.7 < (h / 48) / (w / 64) < 1.4
    assert images.view(image[:1, :1], 8, 2, rng(0)).shape == (8, 8, 3)
    h, w = image.shape[:2]
    central = images.view(image, 32, 0, rng(0), 0.5)
    assert np.array_equal(central, images.resize(image[h // 4 : -(h // 4), w // 4 : -(w // 4)], 32))
    assert np.array_equal(images.view(image, 32, 2, rng(7), 0.5), crop)
