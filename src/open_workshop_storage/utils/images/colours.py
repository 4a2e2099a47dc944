"""Brings the pixels of any image to 8-bit RGB. All of it blocks."""

from __future__ import annotations

from io import BytesIO

from PIL import Image, ImageCms

_SIXTEEN_TO_EIGHT_BITS = 257


def srgb(image: Image.Image) -> Image.Image:
    """Return an image in sRGB, as RGB, or as RGBA if it knows transparency; the colours follow its ICC profile."""
    image = _eight_bits(image)
    if not image.has_transparency_data:
        return _converted(image, image)
    layers = image.convert("RGBA")
    colours = _converted(image, layers.convert("RGB"))
    colours.putalpha(layers.getchannel("A"))
    return colours


def opaque(image: Image.Image) -> Image.Image:
    """Return an image as RGB, its transparency and its profile ignored."""
    image = _eight_bits(image)
    # A palette with transparency loses it without a warning only by way of RGBA.
    return _as(image.convert("RGBA") if image.has_transparency_data else image, "RGB")


def _as(image: Image.Image, mode: str) -> Image.Image:
    # Pillow copies even where there is nothing to convert, and a large image is 350 MB.
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return an image with 8 bits a channel; 16-bit grey is the only deeper thing that decoders hand out whole."""
    if image.mode == "La":
        # Pillow converts grey that is multiplied with its transparency to nothing else.
        return image.convert("LA")
    if not image.mode.startswith("I"):
        return image
    deep = image.convert("I")
    grey = deep.point([value // _SIXTEEN_TO_EIGHT_BITS for value in range(1 << 16)], "L")
    grey.info = image.info.copy()
    transparent = grey.info.pop("transparency", None)
    if transparent is not None:
        grey.putalpha(deep.point([0 if value == transparent else 255 for value in range(1 << 16)], "L"))
    return grey


def _converted(image: Image.Image, plain: Image.Image) -> Image.Image:
    """Return `plain` in sRGB, by the ICC profile of `image` where it has one that fits its colours."""
    content = image.info.get("icc_profile")
    if content:
        try:
            profile = ImageCms.ImageCmsProfile(BytesIO(content))
            mode = _profiled_mode(image.mode, profile.profile.xcolor_space)
            if mode is not None:
                standard = ImageCms.createProfile("sRGB")
                transform = ImageCms.buildTransform(profile, standard, mode, "RGB")
                return transform.apply(_as(plain, mode))
        except (ImageCms.PyCMSError, OSError, ValueError):
            # A broken profile says nothing about the colours.
            pass
    return _as(plain, "RGB")


def _profiled_mode(mode: str, space: str) -> str | None:
    """Return the mode in which a profile of this colour space takes pixels of that mode, if it does."""
    if space == "CMYK":
        return "CMYK" if mode == "CMYK" else None
    if space == "GRAY":
        return "L" if mode in ("1", "L", "LA") else None
    return "RGB" if space == "RGB " and mode not in ("CMYK", "LAB") else None
