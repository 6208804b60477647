"""The embedded stand-in for the hrsc2016 role: generated ship scenes in HRSC2016's own format.

A tree is written as the real set is: BMPs, one XML per image with upright and oriented boxes, ImageSets, a class table.
Besides, Segmentations/<id>.png holds every ship's hull as its number in the XML, from 1 up, and Shortcuts/<id>.png
every planted float as the number of its ship. The scenes prove code paths and heat maps; what is measured on them is no
HRSC2016 result.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from xml.etree import ElementTree  # for writing only

import numpy as np
from PIL import Image

from kit.data.hrsc.format import CLASSES
from kit.data.hrsc.scene import GeneratedScene, generate_scene
from kit.data.hrsc.ships import TYPES
from kit.data.stand_in import kept_tree
from kit.runtime.process import keep_freed_memory

VERSION = 1  # of the pictures: a change that alters any byte counts it up


@dataclass(frozen=True)
class TreePlan:
    """What a generated tree holds. The same plan gives the same bytes."""

    train_scenes: int = 160
    test_scenes: int = 60
    ships: tuple[int, int] = (5, 8)  # per scene, at least and at most; some may find no room
    shortcut_share: float = 0.6
    seed: int = 0


PLAN = TreePlan()  # of the embedded stand-in


def write_tree(folder: str | Path, plan: TreePlan = PLAN) -> None:
    """Writes a tree in HRSC2016's format into an empty or new folder; one scene in sixty holds no ship."""
    keep_freed_memory()
    folder = Path(folder)
    full = folder / "FullDataSet"
    for name in ("AllImages", "Annotations", "Segmentations", "Shortcuts"):
        (full / name).mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets").mkdir(exist_ok=True)

    total = plan.train_scenes + plan.test_scenes
    shuffle = np.random.default_rng([plan.seed, VERSION])
    kinds = [TYPES[i] for _ in range(total * plan.ships[1] // len(TYPES) + 1) for i in shuffle.permutation(len(TYPES))]
    ids = [f"{200000001 + i}" for i in range(total)]
    for i, image_id in enumerate(ids):
        rng = np.random.default_rng([plan.seed, VERSION, i])
        count = 0 if i % 60 == 7 else int(rng.integers(plan.ships[0], plan.ships[1] + 1))
        wanted, kinds = kinds[:count], kinds[count:]
        scene = generate_scene(rng, wanted, plan.shortcut_share, shortcut_tells=i < plan.train_scenes)
        Image.fromarray(scene.picture).save(full / "AllImages" / f"{image_id}.bmp")
        Image.fromarray(scene.hulls).save(full / "Segmentations" / f"{image_id}.png")
        Image.fromarray(scene.floats).save(full / "Shortcuts" / f"{image_id}.png")
        _write_xml(full / "Annotations" / f"{image_id}.xml", _annotation(image_id, scene))
    _write_xml(full / "sysdata.xml", _system_data())

    end, val = plan.train_scenes, plan.train_scenes * 3 // 4
    lists = {"train": ids[:val], "val": ids[val:end], "trainval": ids[:end], "test": ids[end:]}
    for name, members in lists.items():
        (folder / "ImageSets" / f"{name}.txt").write_bytes("".join(f"{member}\n" for member in members).encode())


def _write_xml(path: Path, root: ElementTree.Element) -> None:
    ElementTree.indent(root)
    path.write_bytes(f"{ElementTree.tostring(root, encoding='unicode')}\n".encode())


def _add(parent: ElementTree.Element, **fields: object) -> ElementTree.Element:
    """Appends one child element per field, in order."""
    for name, value in fields.items():
        ElementTree.SubElement(parent, name).text = str(value)
    return parent


def _annotation(image_id: str, scene: GeneratedScene) -> ElementTree.Element:
    height, width = scene.picture.shape[:2]
    root = _add(
        ElementTree.Element("HRSC_Image"), Img_ID=image_id, Place_ID="", Source_ID="", Img_NO=image_id,
        Img_FileName=image_id, Img_FileFmt="bmp", Img_Date="1900-01-01", Img_CusType="sealand",
        Img_Des="generated scene, no photograph", Img_Location="", Img_SizeWidth=width, Img_SizeHeight=height,
        Img_SizeDepth=3, Img_Resolution="", Img_Resolution_Layer="", Img_Scale=100, Img_SclPxlNum="", segmented=1,
        Img_Havemask=0, Img_MaskFileName="", Img_MaskFileFmt="", Img_MaskType="", Img_SegFileName=image_id,
        Img_SegFileFmt="png", Img_Rotation="000d", Annotated=1,
    )  # fmt: skip
    objects = ElementTree.SubElement(root, "HRSC_Objects")
    for number, (ship, box) in enumerate(zip(scene.ships, scene.boxes, strict=True), 1):
        mbox, (bow_x, bow_y) = ship.oriented_box(), ship.point(0.5, 0)
        _add(
            ElementTree.SubElement(objects, "HRSC_Object"), Object_ID=f"{image_id}{number:03}",
            Class_ID=ship.kind.class_id, Object_NO=number, truncated=0, difficult=0,
            box_xmin=box.xmin, box_ymin=box.ymin, box_xmax=box.xmax, box_ymax=box.ymax,
            mbox_cx=f"{mbox.cx:.4f}", mbox_cy=f"{mbox.cy:.4f}", mbox_w=f"{mbox.w:.4f}", mbox_h=f"{mbox.h:.4f}",
            mbox_ang=f"{mbox.angle:.6f}", segmented=1, seg_color=number, header_x=round(bow_x), header_y=round(bow_y),
        )  # fmt: skip
    return root


def _system_data() -> ElementTree.Element:
    root = ElementTree.Element("sysdata")
    _add(
        ElementTree.SubElement(root, "HRSC_DataSet"), DS_ID=100000001, DS_Name="generated ship scenes",
        DS_Folder="FullDataSet", DS_ImgsFolder="AllImages", DS_AnnotationsFolder="Annotations",
        DS_ObjectSegFolder="Segmentations",
    )  # fmt: skip
    classes = ElementTree.SubElement(root, "HRSC_Classes")
    for row in CLASSES.values():
        _add(
            ElementTree.SubElement(classes, "HRSC_Class"), Class_ID=row.class_id, HRS_Class_ID=row.parent or "",
            Class_Layer=row.layer, Class_NO=row.class_id, Class_ShortName=row.name,
        )  # fmt: skip
    return root


def stand_in() -> Path:
    """Returns the root of the generated tree in the kit's cache, made on the first call (some 8 s, 80 MB)."""
    plan = asdict(PLAN) | {"version": VERSION}
    return kept_tree("stand-ins", f"hrsc2016-v{VERSION}", plan, lambda tree: write_tree(tree, PLAN))
