"""HRSC2016 trees and annotations built by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from kit.data.hrsc.format import OrientedBox

NIMITZ, BURKE, SUBMARINE = 100000005, 100000007, 100000027


def ship_xml(class_id: object = NIMITZ, box=(4, 6, 14, 10), mbox=(9, 8, 10, 4, 0.0), **other: object) -> str:
    fields = dict(Object_ID=1, Class_ID=class_id, Object_NO=1, truncated=0, difficult=0)
    fields |= dict(zip(("box_xmin", "box_ymin", "box_xmax", "box_ymax"), box, strict=True))
    fields |= dict(zip(("mbox_cx", "mbox_cy", "mbox_w", "mbox_h", "mbox_ang"), mbox, strict=True))
    fields |= dict(segmented=0, seg_color="\n      ", header_x=5, header_y=8) | other
    return "<HRSC_Object>" + "".join(f"<{k}>{v}</{k}>\n" for k, v in fields.items() if v is not None) + "</HRSC_Object>"


def scene_xml(image_id: str, ships: str = "", size: tuple[object, object] = (40, 30)) -> str:
    return (
        f"<HRSC_Image>\n<Img_ID>{image_id}</Img_ID>\n<Place_ID>\n  </Place_ID>\n"
        f"<Img_SizeWidth>{size[0]}</Img_SizeWidth><Img_SizeHeight>{size[1]}</Img_SizeHeight><HRSC_Objects>\n{ships}</HRSC_Objects>\n</HRSC_Image>\n"
    )


def annotation(folder: Path, ships: str = "", image_id: str = "100000009", **other: object) -> Path:
    path = folder / f"{image_id}.xml"
    path.write_text(scene_xml(image_id, ships, **other), encoding="utf-8")
    return path


def picture(seed: int, size: tuple[int, int] = (40, 30)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def add_scene(place: Path, image_id: str, ships: str, pixels: np.ndarray) -> None:
    for name in ("AllImages", "Annotations"):
        (place / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(place / "AllImages" / f"{image_id}.bmp")
    annotation(place / "Annotations", ships, image_id, size=pixels.shape[1::-1])


def ends(box: OrientedBox) -> np.ndarray:
    """The middles of an oriented box's short sides, c − (w/2)(cos, sin) and c + (w/2)(cos, sin), (2, 2)."""
    return box.corners().reshape(2, 2, 2).mean(1)[::-1]
