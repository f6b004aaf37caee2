"""Image files of all kinds."""

import numpy as np
import pytest

import lead_fast
from lead_fast.errors import InputError
from lead_fast.extract import images

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")
extracting = pytest.importorskip("extracting")
Net, small = extracting.Net, extracting.small

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 24), dtype=np.uint8)


def opened(path):
    with Image.open(path) as image:
        return np.asarray(images.rgb(image))


def test_sixteen_bits(tmp_path):
    """Pillow's own conversion makes all that is above 255 white."""
    wide = GREY.astype(np.uint16) << 8 | 77
    for suffix in ("png", "tif"):
        Image.fromarray(wide).save(tmp_path / f"a.{suffix}")
        assert np.array_equal(opened(tmp_path / f"a.{suffix}"), np.repeat(GREY[..., None], 3, 2))
    for pixels in (wide, GREY):  # as wider numbers, which may hold 8 bits
        Image.fromarray(pixels.astype(np.int32)).save(tmp_path / "i.tif")
        assert np.array_equal(opened(tmp_path / "i.tif"), np.repeat(GREY[..., None], 3, 2))


@pytest.mark.parametrize(
    "pixels", [GREY.astype(np.float32) / 255, GREY.astype(np.int32) << 20, -GREY.astype(np.int32)]
)
def test_numbers_of_no_known_range(folder, pixels):
    Image.fromarray(pixels).save(folder / "cat" / "x.tif")
    with pytest.raises(
        InputError,
        match=r"x\.tif: not a readable image .pixels of mode [IF]: save images of 8 or 16",
    ):
        lead_fast.extract(Net(), folder, transform=small)


def test_as_the_camera_was_held(folder):
    upright = Image.fromarray(np.dstack([GREY, GREY.T[:20, :20].repeat(2, 1)[:, :24], GREY]))
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    turned.save(folder / "cat" / "x.png", exif=exif)
    data = images.ImageFolder(folder, np.asarray)
    place = [path.name for path in data.paths].index("x.png")
    assert np.array_equal(data[place][0], np.asarray(upright))


def test_which_files_are_images(folder):
    before = len(images.ImageFolder(folder))
    image = Image.fromarray(GREY)
    (folder / "cat" / ".ipynb_checkpoints").mkdir()
    image.save(folder / "cat" / ".ipynb_checkpoints" / "a.png")
    image.save(folder / "cat" / "._b.png")
    (folder / "cat" / "notes.txt").write_text("none")
    assert len(images.ImageFolder(folder)) == before
    image.convert("RGB").save(folder / "cat" / "c.jfif", "jpeg")
    assert len(images.ImageFolder(folder)) == before + 1
    (folder / "raw").mkdir()
    (folder / "raw" / "a.dng").write_bytes(b"no image that Pillow reads")
    with pytest.raises(InputError, match=r"raw: no image among a\.dng; images end in \.jpg"):
        images.ImageFolder(folder)
