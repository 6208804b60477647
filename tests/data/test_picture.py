"""Pictures as they come, against Pillow's own exif_transpose and convert, and numpy."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from kit.data.folder import folder_dataset
from kit.data.picture import EXTENSIONS, FORMATS, decode_file, read

EXAMPLES = int(os.environ.get("KIT_PICTURES", "600"))
RAMP = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (16, 1))  # (16, 64), black to white
EIGHT = np.rint(RAMP / 257).astype(np.uint8)
ENCODERS = {  # what Pillow can write, by format
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I;16B", "F", "LAB", "I"),
    "WEBP": ("RGB", "RGBA"),
    "AVIF": ("RGB", "RGBA"),
    "JPEG2000": ("L", "LA", "RGB", "RGBA", "I;16"),
    "GIF": ("1", "L", "P", "RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "TGA": ("1", "L", "LA", "P", "RGB", "RGBA"),
    "PPM": ("1", "L", "RGB", "I;16"),
    "PCX": ("1", "L", "P", "RGB"),
    "SGI": ("L", "RGB", "RGBA"),
    "MPO": ("L", "RGB", "CMYK"),
}
TURNED = ("PNG", "JPEG", "TIFF", "WEBP", "AVIF", "MPO")  # whose encoders take an EXIF block


def drawn(mode: str, size: tuple[int, int], seed: int) -> Image.Image:
    rng, shape = np.random.default_rng(seed), size[::-1]
    if mode == "F":
        return Image.fromarray(rng.random(shape, np.float32))
    if mode == "I":
        return Image.fromarray(rng.integers(-9, 2**31 - 1, shape, dtype=np.int32))
    if mode.startswith("I;16"):
        kind = ">u2" if mode == "I;16B" else "<u2"
        return Image.frombytes(mode, size, rng.integers(0, 65536, shape).astype(kind).tobytes())
    if mode in ("1", "P"):
        return Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)).convert(mode)
    bands = len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, size, rng.integers(0, 256, (*shape, bands), dtype=np.uint8).tobytes())


def encoded(image: Image.Image, kind: str, orientation: int = 1, **more: object) -> bytes:
    out = io.BytesIO()
    if kind in TURNED and orientation > 1:
        exif = Image.Exif()
        exif[0x0112] = orientation
        more["exif"] = exif
    image.save(out, kind, **more)
    return out.getvalue()


@st.composite
def pictures(draw) -> tuple[str, bytes]:
    kind = draw(st.sampled_from(sorted(ENCODERS)))
    mode = draw(st.sampled_from(ENCODERS[kind]))
    size = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    more = {}
    if kind == "PNG" and mode in ("L", "P", "RGB") and draw(st.booleans()):
        more["transparency"] = (1, 2, 3) if mode == "RGB" else draw(st.integers(0, 255))
    if kind == "TIFF":
        more["compression"] = draw(st.sampled_from(["raw", "tiff_lzw"]))
    image = drawn(mode, size, draw(st.integers(0, 99)))
    return mode, encoded(image, kind, draw(st.integers(1, 8)), **more)


def shown(content: bytes) -> np.ndarray:
    """What a viewer shows, by Pillow's own functions and a formula: float (H, W, 3)."""
    with Image.open(io.BytesIO(content)) as opened:
        image = ImageOps.exif_transpose(opened)
    if image.mode == "F" or image.mode.startswith("I"):
        top = 1 if image.mode == "F" else 65535
        return np.asarray(image, float)[..., None].repeat(3, 2) / top * 255
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"), float)
    rgba = np.asarray(image.convert("RGBA"), float)
    share = rgba[..., 3:] / 255
    return rgba[..., :3] * share + 255 * (1 - share)


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
@given(pictures())
def test_any_picture_is_as_a_viewer_shows_it_or_refused_by_name(picture):
    mode, content = picture
    if mode == "I":
        with pytest.raises(ValueError, match="32 bits are not read; allowed: 8 or 16"):
            read(content)
        return
    found, expected = read(content), shown(content)
    assert found.image.mode == "RGB" and found.image.size == found.size
    assert np.abs(np.asarray(found.image, float) - expected).max() <= 1
    with Image.open(io.BytesIO(content)) as opened:
        plain = np.asarray(opened.convert("RGB"))
    if not found.how:  # then the fingerprint says nothing, so that the pixels must be what they were
        assert np.array_equal(np.asarray(found.image), plain)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_much_larger_photograph_is_turned_though_decoded_smaller(tmp_path, orientation):
    quarters = np.zeros((400, 640, 3), np.uint8)
    quarters[:200, :320], quarters[200:, 320:] = 255, (255, 0, 0)
    (tmp_path / "a.jpg").write_bytes(encoded(Image.fromarray(quarters), "JPEG", orientation, quality=95))
    found = decode_file(tmp_path / "a.jpg", 20)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg"))
    assert found.size == upright.size
    fitted = np.asarray(ImageOps.fit(upright, (20, 20), Image.Resampling.BILINEAR), int)
    assert np.abs(found.pixels.astype(int) - fitted)[[2, 2, -3, -3], [2, -3, 2, -3]].max() <= 8
    assert ("turned" in found.file_hash) == (orientation > 1)


def tiff(levels: np.ndarray, white_is_zero: bool) -> bytes:
    """A 16-bit TIFF by Pillow, its PhotometricInterpretation (tag 262, a SHORT) changed by hand."""
    content = bytearray(encoded(Image.fromarray(levels), "TIFF"))
    entry = content.index(b"\x06\x01\x03\x00\x01\x00\x00\x00")
    content[entry + 8] = 0 if white_is_zero else 1
    return bytes(content)


@pytest.mark.parametrize("white_is_zero", [False, True])
def test_deep_levels_of_which_zero_is_white(white_is_zero):
    grey = np.asarray(read(tiff(RAMP, white_is_zero)).image)[..., 0]
    assert np.array_equal(grey, 255 - EIGHT if white_is_zero else EIGHT)


def test_a_grey_map_of_ten_bits_and_one_in_words():
    ten = (RAMP >> 6).astype(">u2")
    binary = b"P5 64 16 1023\n" + ten.tobytes()
    words = b"P2 64 16 1023\n" + " ".join(map(str, ten.ravel())).encode()
    for content in (binary, words):
        grey = np.asarray(read(content).image, int)[..., 0]
        assert np.abs(grey - np.rint(ten / 1023 * 255)).max() <= 1


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        (np.full((4, 4), np.nan, np.float32), "float levels from nan"),
        (np.full((4, 4), np.inf, np.float32), "to inf"),
        (np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4), "float levels from -1 to 1 are not read"),
        (np.linspace(0, 255, 16, dtype=np.float32).reshape(4, 4), "to 255 are not read; allowed: 0 to 1"),
        (np.arange(16, dtype=np.int32).reshape(4, 4), "signed or of 32 bits"),
    ],
)
def test_levels_whose_range_nothing_says_are_refused_by_name(tmp_path, levels, said):
    Image.fromarray(levels).save(tmp_path / "x.tif")
    found = decode_file(tmp_path / "x.tif", 8)
    assert found.pixels is None and said in found.reason


def test_sixteen_bits_with_a_transparent_level():
    content = encoded(Image.fromarray(RAMP), "PNG", transparency=int(RAMP[0, 0]))
    grey = np.asarray(read(content).image)[..., 0]
    assert (grey[:, 0] == 255).all() and np.array_equal(grey[:, 1:], EIGHT[:, 1:])


def test_the_first_of_several_frames_is_read():
    frames = [drawn("RGB", (9, 7), seed) for seed in range(3)]
    for kind in ("TIFF", "PNG", "WEBP"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
        assert np.array_equal(np.asarray(read(content).image), np.asarray(frames[0]))


def test_metadata_that_cannot_be_read_cost_no_picture():
    content = encoded(drawn("RGB", (9, 7), 1), "JPEG", 6)
    at = content.index(b"Exif\0\0") + 6
    for damage in (b"XX", b"MM\xff\xff", b"\0" * 20):
        broken = content[:at] + damage + content[at + len(damage) :]
        assert read(broken).image.size in ((9, 7), (7, 9))


def test_a_format_that_is_not_read_is_named(tmp_path):
    drawn("RGB", (16, 16), 1).save(tmp_path / "x.ico")
    (tmp_path / "x.ico").rename(tmp_path / "x.png")
    found = decode_file(tmp_path / "x.png", 8)
    assert found.pixels is None and found.reason.startswith("format ICO is not read; allowed: ")


def test_endings_and_formats_belong_together():
    known = Image.registered_extensions()
    assert {known[ending] for ending in EXTENSIONS} == set(FORMATS) - {"MPO"} | {known[".mpo"]}
    assert set(ENCODERS) <= set(FORMATS)


def test_an_identity_changes_where_pixels_do(tmp_path):
    """A streamed set's fingerprint is of files; those that are now read otherwise say so, plain ones do not."""
    plain, clear = drawn("RGBA", (9, 9), 1), drawn("RGBA", (9, 9), 1)
    plain.putalpha(255)
    marks = {}
    for name, image in {
        "plain": plain,
        "clear": clear,
        "grey": drawn("L", (9, 9), 1),
        "deep": drawn("I;16", (9, 9), 1),
    }.items():
        image.save(tmp_path / f"{name}.png")
        marks[name] = decode_file(tmp_path / f"{name}.png", 9).file_hash.split(" ")[2:]
    assert marks == {"plain": [], "clear": ["over", "white"], "grey": [], "deep": ["deep"]}


def test_a_streamed_set_sees_the_mark(tmp_path):
    found = []
    for orientation in (1, 6):
        root = tmp_path / str(orientation)
        for split in ("train", "test"):
            for name in ("ant", "bee"):
                (root / split / name).mkdir(parents=True)
                content = encoded(drawn("RGB", (9, 9), len(name + split)), "JPEG", orientation)
                (root / split / name / "a.jpg").write_bytes(content)
        found.append(folder_dataset(root, "imagenet", 9, streamed=True))
    upright, turned = (data.train.images.take(data.train.labels * 0) for data in found)
    assert np.array_equal(np.rot90(upright[0].numpy(), -1), turned[0].numpy())
