"""The user's own images: a folder with a folder for each class, as in `--set data=photos` or `--set data=photos@32`.

Read are the images right in the folder of a class, by their suffix; what begins with a dot is left out. They must be
square and of one size, unless the name says which, in pixels: then each is cut to its central square and resampled.
One that comes twice in a class is kept once. Greyscale images have one channel; where one is in colour, all have three.
Transparency is left out.

`images` is (samples, size, size, channels), uint8, 0 to 255; `labels` (samples,), int32, the place of the class among
all, sorted.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from harness.errors import UserError
from harness.spec import slugify
from suites.data._parts import PARTS, Parts, kept, split
from suites.data.stdlib import state

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
GREY = ("1", "L", "LA", "La")  # Pillow's modes of 8 bits or fewer without colour
DEEP = ("I", "F")  # how its modes of more than 8 bits begin
HINT = "give a folder for each class, with its images: FOLDER/CLASS/IMAGE.png"


def prepare(folder: Path, source: Path) -> dict[str, Any]:
    """Return the manifest of the images in `source`, FOLDER or FOLDER@SIZE; raise UserError, with the file."""
    images, size = (source, 0) if source.is_dir() else sized(str(source))
    files = {path.relative_to(images).as_posix(): path for path in found(images)}
    depends = f"{images.name} {size} {PIL.__version__} {state(files)}".encode() + Path(__file__).read_bytes()
    return kept(slugify(images.name) or "images", depends, partial(make, images.name, files, size), folder)


def sized(source: str) -> tuple[Path, int]:
    """Return the folder and the size of FOLDER@SIZE."""
    images, _, size = source.rpartition("@")
    if not (size.isascii() and size.isdecimal() and int(size)):
        raise UserError(f"{size!r} is no size of images", f"give the pixels of a side: {Path(images).name}@32")
    return Path(images), int(size)


def found(images: Path) -> list[Path]:
    """Return the image files of all classes, sorted."""
    classes = sorted(path for path in images.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise UserError(f"{images.name} has no folder of a class", HINT)
    files = []
    for one in classes:
        mine = sorted(path for path in one.iterdir() if is_image(path))
        if not mine:
            raise UserError(f"{images.name}/{one.name} has no image: {', '.join(SUFFIXES)}", HINT)
        files += mine
    if len(classes) == 1:
        raise UserError(f"{images.name} has one class, {classes[0].name!r}", "give images of another class, too")
    return files


def is_image(path: Path) -> bool:
    """Tell whether the name is that of an image that is read."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def make(name: str, files: Mapping[str, Path], size: int) -> tuple[Parts, dict[str, Any]]:
    """Return the three parts and what they are."""
    read = {file: pixels(f"{name}/{file}", path, size) for file, path in files.items()}
    check_sizes(name, read)
    has_colour = any(image.shape[2] == 3 for image in read.values())
    chosen: dict[tuple[str, bytes], NDArray[Any]] = {}
    for file, image in read.items():
        whole = np.repeat(image, 3, axis=2) if has_colour and image.shape[2] == 1 else image
        chosen.setdefault((file.partition("/")[0], whole.tobytes()), whole)
    labels = places(name, [label for label, _ in chosen])
    images = np.stack([*chosen.values()])
    parts = {part: {"images": images[rows], "labels": labels[rows]} for part, rows in split(labels).items()}
    side, channels, classes = *images.shape[2:], len(np.unique(labels))
    shape = f"{side} pixels a side, {'colour' if channels == 3 else 'greyscale'}"
    return parts, {"classes": classes, "source": f"{name}: {len(images):,} images of {classes} classes, {shape}."}


def pixels(name: str, path: Path, size: int) -> NDArray[np.uint8]:
    """Return an image (height, width, 1 or 3), upright; with `size` its central square, resampled."""
    try:
        with Image.open(path) as opened:
            if opened.mode.startswith(DEEP):
                raise UserError(f"{name} has more than 8 bits a pixel", "save it with 8")
            image = ImageOps.exif_transpose(opened).convert("L" if opened.mode in GREY else "RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        said = "" if isinstance(error, UnidentifiedImageError) else f": {error}"
        raise UserError(f"{name} does not open as an image{said}", "mend it, or leave it out") from None
    if size:
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(image.height, image.width, -1)


def check_sizes(name: str, images: Mapping[str, NDArray[Any]]) -> None:
    """Raise UserError for the first image that is not square, or not as large as the first one."""
    first, side = next((file, image.shape[1]) for file, image in images.items())
    for file, image in images.items():
        height, width, _ = image.shape
        if (height, width) != (side, side):
            what = "is not square" if file == first else f"differs from {first}"
            raise UserError(
                f"{name}/{file}, {width} x {height} pixels, {what}",
                f"{name}@32 cuts all to squares of 32 pixels a side",
            )


def places(name: str, classes: Sequence[str]) -> NDArray[np.int32]:
    """Return the place of each class among all, sorted; raise UserError for one without an image for each part."""
    for one, count in Counter(classes).items():
        if count < len(PARTS):
            raise UserError(
                f"{name}/{one} has {count} different images, too few for three parts",
                "give three or more, or leave the class out",
            )
    known = sorted(set(classes))
    return np.array([known.index(one) for one in classes], dtype=np.int32)
