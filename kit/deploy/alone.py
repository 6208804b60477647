"""Prints each picture's class and its probability: `python predict.py PICTURE …`. It needs torch and pillow alone."""

import json
import sys
from contextlib import suppress
from pathlib import Path

import torch
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent


def pixels(file: str, px: int) -> torch.Tensor:
    """Reads a picture upright, over white, as RGB, its middle at px × px: uint8 (px, px, 3)."""
    with Image.open(file) as image:
        image.draft(None, (2 * px, 2 * px))  # a much larger JPEG is decoded at a half, a quarter or an eighth
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"levels of mode {image.mode} are not read; allowed: 8 bits")
        image.load()
        with suppress(Exception):  # metadata that cannot be read turn nothing
            ImageOps.exif_transpose(image, in_place=True)
        picture: Image.Image = image
        if picture.has_transparency_data:
            white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
            picture = Image.alpha_composite(white, picture.convert("RGBA"))
        picture = ImageOps.fit(picture.convert("RGB"), (px, px), Image.Resampling.BILINEAR)
    return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(px, px, 3)


def main(files: list[str]) -> int:
    how = json.loads((HERE / "preprocess.json").read_text(encoding="utf-8"))
    classes = (HERE / "classes.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    student = torch.export.load(HERE / "student.pt2").module()
    mean, std = torch.tensor(how["mean"]), torch.tensor(how["std"])  # in 0 … 255
    status = 0
    for file in files:
        try:
            x = (pixels(file, how["px"]) - mean) / std  # (px, px, 3)
        except Exception as error:  # of one file among many, from any of Pillow's decoders
            print(f"{file}: not read: {error}", file=sys.stderr)
            status = 1
            continue
        with torch.inference_mode():
            p = student(x.permute(2, 0, 1)[None])[0].softmax(0)  # (C,)
        print(f"{file}\t{classes[int(p.argmax())]}\t{float(p.max()):.4f}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) if sys.argv[1:] else __doc__)
