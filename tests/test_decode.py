"""Every odd kind of picture file comes out upright, RGB and right; everything else is a ValueError."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from acclimate.data import decode as module
from acclimate.data.decode import decode

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(width: int = 64, height: int = 48) -> Image.Image:
    """Red left, blue right, a green top row: every rotation and mirroring looks different."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    image.paste(GREEN, (0, 0, width, height // 4))
    return image


def close(image: Image.Image, expected: Image.Image, most: float = 12) -> bool:
    assert image.mode == "RGB"
    assert image.size == expected.size
    return np.abs(np.asarray(image, dtype=int) - np.asarray(expected, dtype=int)).mean() < most


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_undone(orientation: int, kind: str) -> None:
    T = Image.Transpose
    undone_by = [
        None,
        T.FLIP_LEFT_RIGHT,
        T.ROTATE_180,
        T.FLIP_TOP_BOTTOM,
        T.TRANSPOSE,
        T.ROTATE_90,
        T.TRANSVERSE,
        T.ROTATE_270,
    ]
    stored = photo() if orientation == 1 else photo().transpose(undone_by[orientation - 1])
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert close(decode(encoded(stored, kind, exif=exif)), photo())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_broken_exif_block_does_not_cost_the_picture(kind: str) -> None:
    assert close(decode(encoded(photo(), kind, exif=b"Exif\x00\x00 broken")), photo())


def test_cmyk_jpeg() -> None:
    assert close(decode(encoded(photo().convert("CMYK"), "JPEG", quality=95)), photo())


def test_cmyk_jpeg_without_the_adobe_marker_is_not_inverted() -> None:
    """Pillow writes what Adobe does: inverted, and marked. Neither inverted nor marked it is plain CMYK."""
    inverted = Image.fromarray(255 - np.asarray(photo().convert("CMYK")), "CMYK")
    raw = encoded(inverted, "JPEG", quality=95)
    marker = raw.index(b"\xff\xee\x00\x0eAdobe")
    assert close(decode(raw[:marker] + raw[marker + 16 :]), photo())


def test_cmyk_tiff() -> None:
    assert close(decode(encoded(photo().convert("CMYK"), "TIFF")), photo())


def test_palette() -> None:
    assert close(decode(encoded(photo().quantize(8))), photo())


def test_palette_with_a_transparent_entry_lies_on_white() -> None:
    image = Image.new("P", (4, 2), 0)
    image.putpalette([*RED, *BLUE])
    image.paste(1, (2, 0, 4, 2))
    pixels = np.asarray(decode(encoded(image, transparency=0)))
    assert (pixels[:, :2] == WHITE).all()
    assert (pixels[:, 2:] == BLUE).all()


def test_alpha_lies_on_white_by_its_share() -> None:
    pixels = np.zeros((1, 3, 4), dtype=np.uint8)
    pixels[0, :, 3] = 0, 128, 255
    assert np.asarray(decode(encoded(Image.fromarray(pixels))))[0, :, 0].tolist() == [255, 127, 0]


def test_grey_with_alpha() -> None:
    pixels = np.array([[[10, 0], [10, 255]]], dtype=np.uint8)
    assert np.asarray(decode(encoded(Image.fromarray(pixels, "LA"))))[0, :, 0].tolist() == [255, 10]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    values = np.array([[0, 257, 25700, 65535]], dtype=np.uint16)
    pixels = np.asarray(decode(encoded(Image.fromarray(values), kind)))
    assert pixels[0, :, 0].tolist() == [0, 1, 100, 255]
    assert (pixels == pixels[..., :1]).all()


def test_16_bit_colour_png() -> None:
    """Written by hand, for Pillow cannot write one."""
    row = b"\x00" + struct.pack(">6H", 65535, 0, 25700, 0, 65535, 514)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    raw = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    assert np.asarray(decode(raw)).tolist() == [[[255, 0, 100], [0, 255, 2]]]


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_float_tiff_by_the_range_it_uses(top: float) -> None:
    values = np.array([[0, top / 5, top, np.nan]], dtype=np.float32)
    assert np.asarray(decode(encoded(Image.fromarray(values), "TIFF")))[0, :, 0].tolist() == [0, 51, 255, 0]


def test_1_bit() -> None:
    assert np.asarray(decode(encoded(Image.fromarray(np.array([[True, False]])))))[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first(kind: str) -> None:
    raw = encoded(photo(), kind, save_all=True, append_images=[Image.new("RGB", photo().size, GREEN)])
    assert Image.open(io.BytesIO(raw)).n_frames == 2
    assert close(decode(raw), photo())


@pytest.mark.parametrize(
    ("least", "size"), [(None, (1000, 800)), (800, (1000, 800)), (400, (500, 400)), (101, (250, 200)), (9, (125, 100))]
)
def test_jpeg_is_decoded_at_the_smallest_scale_that_is_enough(least: int | None, size: tuple[int, int]) -> None:
    assert close(decode(encoded(photo(1000, 800), "JPEG"), least), photo(*size))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "the file is empty (0 bytes)"),
        (b"hello, I am a text", "not a picture in a known format (JPEG, PNG,"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture in a known format"),
        (encoded(photo(), "JPEG")[:-200], "truncated"),
        (encoded(photo(), "PNG")[:-60], "truncated"),
        (encoded(photo(), "JPEG")[:30], "cannot be decoded"),
        (encoded(photo(), "GIF")[:-20], "truncated"),
    ],
)
def test_what_cannot_be_decoded_says_why(raw: bytes, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        decode(raw)
    assert type(caught.value) is ValueError
    assert reason in str(caught.value)


def test_a_decompression_bomb_is_refused_before_it_is_unpacked() -> None:
    raw = bytearray(encoded(photo(), "PNG"))
    raw[16:24] = struct.pack(">II", 30_000, 30_000)
    raw[29:33] = struct.pack(">I", zlib.crc32(raw[12:29]))
    with pytest.raises(ValueError, match="pixels"):
        decode(bytes(raw))


def test_the_limit_holds_whatever_the_application_set_in_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(module, "MOST_PIXELS", 64 * 48 - 1)
    with pytest.raises(ValueError, match="64 x 48 pixels"):
        decode(encoded(photo()))


def only_value_errors(raw: bytes) -> None:
    try:
        image = decode(raw, least=16)
    except ValueError as error:
        assert type(error) is ValueError
        assert str(error)
    else:
        assert image.mode == "RGB"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes(raw: bytes) -> None:
    only_value_errors(raw)


SOUND = {kind: encoded(photo(), kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")}


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(SOUND)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), max_size=6),
    st.floats(0, 1),
)
def test_mutated_pictures(kind: str, changes: list[tuple[float, bytes]], kept: float) -> None:
    raw = bytearray(SOUND[kind])
    for place, patch in changes:
        at = int(place * len(raw))
        raw[at : at + len(patch)] = patch
    only_value_errors(bytes(raw[: int(len(raw) * max(kept, 0.5))]))
