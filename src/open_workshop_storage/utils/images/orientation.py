"""Which way up a picture is (docs/API.md, "Images")."""

from __future__ import annotations

from PIL import ExifTags, Image

# EXIF 2.32, tag 0x0112: what undoes each orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image) -> Image.Transpose | None:
    """Return what turns a picture upright, by its EXIF alone, as browsers do; None if nothing has to be done."""
    exif = Image.Exif()
    try:
        # `getexif` would look into XMP too, and Pillow has turned TIFFs already.
        exif.load(image.info.get("exif", b""))
        return _UPRIGHT.get(exif.get(ExifTags.Base.Orientation, 1))
    except Exception:
        # Broken metadata, of which the parser may make anything, do not break the picture.
        return None
