"""`decode`: the bytes of a picture file to an upright RGB picture."""

from __future__ import annotations

import io
import warnings
from functools import cache

import numpy as np
from PIL import ExifTags, Image, ImageChops, ImageOps

from acclimate.data.table import Table

MOST_PIXELS = 180_000_000
"""A picture of more pixels is refused: a small file can unpack to gigabytes."""
TOLD = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}
"""What Pillow calls the parts of a file that may say how its picture is turned."""
TRANSPOSED = (5, 6, 7, 8)
"""The EXIF orientations that swap width and height."""
WIDTH, HEIGHT = 256, 257
"""The tags of a TIFF."""
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # Pillow warns of half as many

# Told by their first bytes and decoded in this process: no EPS, which would start Ghostscript, and no TGA, which nearly
# any bytes resemble.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "PPM", "JPEG2000", "AVIF", "ICO")


def decode(raw: bytes, least: int | None = None) -> Image.Image:
    """The first frame of a picture file as upright RGB, 8 bits a channel.

    EXIF rotation is applied, transparency is laid on white, 16-bit and float pictures are scaled to 8 bits. `least`: a
    JPEG is decoded at the smallest of its DCT scales (1, 1/2, 1/4, 1/8) that leaves both sides at least so many
    pixels; the default is full size.

    Raises ValueError, with a reason a person can read, for everything that cannot be decoded: no bytes, no picture, a
    file cut short, more than `MOST_PIXELS`.
    """
    return decode_sized(raw, least)[0]


def decode_sized(raw: bytes, least: int | None = None) -> tuple[Image.Image, tuple[int, int]]:
    """As `decode`, and the (width, height) of the upright picture at full size."""
    if not raw:
        raise ValueError("the file is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(raw), formats=formats())
    except Image.UnidentifiedImageError:
        raise ValueError(f"not a picture in a known format ({', '.join(formats())})") from None
    except Exception as error:
        raise _refusal(error) from None
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels, more than the {MOST_PIXELS // 10**6} million allowed")
    try:
        size = upright_size(image)
        if least is not None:
            image.draft(None, (least, least))
        image.load()
        return _rgb(_upright(image)), size
    except Exception as error:  # decoders raise a dozen classes, from SyntaxError to struct.error
        raise _refusal(error) from None


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) that an opened picture has once EXIF has turned it."""
    tags = getattr(image, "tag_v2", None)  # Pillow swaps the sides of a TIFF by itself, not in every version
    width, height = (tags[WIDTH], tags[HEIGHT]) if tags else image.size
    return (height, width) if orientation(image) in TRANSPOSED else (width, height)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8 (1 = stored upright); the class's own method would decode a PNG to look behind its pixels."""
    if not (TOLD & image.info.keys() or hasattr(image, "tag_v2")):
        return 1
    try:
        found = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken EXIF block is no reason to lose a sound picture
        return 1
    return found if found in range(1, 9) else 1


@cache
def formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _refusal(error: Exception) -> ValueError:
    return ValueError(f"cannot be decoded: {str(error).strip() or type(error).__name__}")


def _upright(image: Image.Image) -> Image.Image:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # a broken EXIF block is no reason to lose a sound picture
        return image
    return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep(image).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    if image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        # Pillow inverts every CMYK JPEG, as Adobe's need; the others come out as negatives.
        image = ImageChops.invert(image)
    return image.convert("RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    """8-bit grey: integers scaled by the range of 16 (or 31) bits, floats by the first usual range that holds them."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    highest = values.max(initial=0)
    ranges = (1, 255, 65535) if image.mode == "F" else (65535,)
    top = next((bound for bound in ranges if highest <= bound), max(highest, 2**31 - 1))
    return Image.fromarray(np.rint(values.clip(0) * (255 / top)).astype(np.uint8))


def size_of(table: Table, row: int) -> tuple[int, int] | None:
    """(width, height) in pixels as the header of a picture says, unrotated; None where it cannot be read."""
    try:
        raw = table.raw(row)
        with Image.open(io.BytesIO(raw if isinstance(raw, bytes) else b""), formats=formats()) as image:
            return image.size
    except Exception:
        return None
