"""What must not change when code only moves: descriptions of runs, their hashes, and the bytes of pictures.

`pins/` holds what was found when the pins were set. To set them anew on purpose (and to say in the commit why):

    KIT_SET_PINS=1 python -m pytest tests/test_pins.py

Left out of the pictures is what follows from torch's own arithmetic, which differs by processor (the derivation's
curves, Grad-CAM's maps, [10]'s complexity), from images (the sheets of samples), and from a search (its candidates are
proposed by a network, and its time is measured).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from made_cache import make_all
from pydantic import BaseModel
from small_runs import labelled

from kit import recipe
from kit.data.base import Dataset
from kit.data.hrsc.generated import TreePlan, write_tree
from kit.figures import FOLLOWING, NEEDS
from kit.files import sha256
from kit.grid.training import train_all
from kit.methods import METHODS, annealing, complexity
from kit.models import MODELS, ModelSpec
from kit.networks.layered import Layer, LayeredSpec
from kit.networks.named import NamedSpec
from kit.networks.view import Outputs, View
from kit.paper import headlines, table1, table2, table3, table4
from kit.paper.plan import Plan, collect, runs_of
from kit.paper.presets import preset_named
from kit.paper.printed import TABLE_3
from kit.paper.settings import Settings
from kit.recipe import HardLabels, Objective, Recipe
from kit.runs.spec import DataSpec, HeldOutSpec, LevelSpec, Run, hash_of
from kit.runs.weights import Given, Weights
from kit.show import paper_figures, save, table4_figures
from kit.show.artefacts import csv_bytes
from kit.siblings import crd
from kit.temperature import Adaptive, Falling, Fixed, Policy, Scheduled
from kit.training.steering import Event

PINS = Path(__file__).parent / "pins"


def pinned(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """What the file holds; where pins are set anew, what was found, which it holds from now on."""
    if os.environ.get("KIT_SET_PINS"):
        (PINS / name).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return json.loads((PINS / name).read_text(encoding="utf-8"))


# ---- descriptions -------------------------------------------------------------------------------------------------

SIZES = {"px": 16, "classes": 10, "train_images": 160, "train_per_class": 16, "test_per_class": 8}
FIELDS = {"role": "cifar-10", "name": "made up", "source": "embedded", "fingerprint": "0123456789abcdef" * 4} | SIZES
DATA = DataSpec(**FIELDS)
OWN_FOLDER = DataSpec(**FIELDS | {"role": "own", "name": "image folder pets", "source": "real"})
OTHERS = Outputs(count=12, names="2" * 64, chosen=(11, *range(9)))


def network(name: str = "cnn", **more: Any) -> ModelSpec:
    return ModelSpec(**{"name": name, "classes": 10, "width": 4, "stem": "small"} | more)


def described(
    stages: tuple[recipe.Stage, ...] = recipe.hard_labels(), teachers: dict | None = None, **more: Any
) -> Run:
    """A made-up run; teachers are those that its stages name."""
    own = Recipe(**{"stages": stages, "epochs": 3, "batch": 32} | more.pop("how", {}))
    known = TEACHERS if teachers is None else teachers
    needed = {name: known[name] for name in own.teachers}
    return Run(**{"data": DATA, "student": network(), "recipe": own, "teachers": needed, "preset": "smoke"} | more)


TEACHERS = {name: described(student=network(name), teachers={}) for name in ("resnet50", "vgg19")}
TEACHERS = {"big": TEACHERS["resnet50"], "small": TEACHERS["vgg19"]}


def kinds() -> dict[str, Run]:
    """A run of every kind."""
    plain = partial(recipe.adaptive, 3, normalised=False)
    t = plain()
    residual = (Layer(channels=4, pool=True), Layer(channels=6, kernel=1, stride=2), Layer(channels=6, back=2))
    hop = recipe.eq1(20, "hinton")[0].model_copy(update={"name": "assistant", "teacher": "assistant"})
    assistant = described(recipe.eq1(20, "hinton"), student=network("vgg16"))
    steered = (
        Event(step=0, name="k", value=8),
        Event(step=2, name="alpha", value=0.25),
        Event(step=2, name="rate", value=9),
    )
    updated = {"lr": 0.05, "warmup": 0.2, "momentum": 0.8, "weight_decay": 1e-3, "pad": 1, "batch": 16}
    return {
        "hard labels": described(),
        "hard labels, every number another": described(how=updated, seed=7, preset="custom"),
        **{f"network {name}": described(student=network(name)) for name in MODELS},
        "network at the paper's width": described(student=ModelSpec(name="vgg16", classes=10, batch_norm=False)),
        "the field's protocol": described(crd.stages(), how=crd.UPDATES | {"batch": crd.BATCH, "lr": crd.LR}),
        "network by layers": described(student=LayeredSpec(layers=residual, classes=10)),
        "network by name": described(
            student=NamedSpec(name="torchvision:resnet18", classes=10, shapes="0123456789abcdef")
        ),
        "network by name that sees larger images": described(
            student=NamedSpec(name="timm:resnet18", classes=10, shapes="f" * 16, view=View(scale=(2, 1, 0.5), px=32))
        ),
        "network by a file's function": described(
            student=NamedSpec(
                name="nets.py:tiny",
                classes=10,
                arguments={"depth": 2},
                code="0" * 64,
                shapes="f" * 16,
                folding="refused",
                path="/home/somebody/nets.py",
            )
        ),
        "given": described(recipe=Given(), weights=Weights(sha256="1" * 64, path="/home/somebody/weights.pth")),
        "given, of other classes": described(
            student=NamedSpec(name="timm:resnet18", classes=10, shapes="f" * 16, view=View(outputs=OTHERS)),
            recipe=Given(),
            weights=Weights(sha256="1" * 64),
        ),
        "given, with a new head": described(recipe=Given(), weights=Weights(sha256="1" * 64, head="fc")),
        "own folder": described(data=OWN_FOLDER),
        "begun with weights": described(weights=Weights(sha256="1" * 64)),
        "network by layers, of a VGG": described(student=LayeredSpec.of(network("vgg16"))),
        "Eq. (1) as printed": described(recipe.eq1(5)),
        "Eq. (1) as hinton": described(recipe.eq1(20, "hinton", alpha=0.3)),
        "three steps": described(recipe.small_teacher(t)),
        "three steps, t by adam": described(recipe.small_teacher(plain(optimiser="adam"))),
        "three steps, t follows kl": described(recipe.small_teacher(plain(follows="kl"))),
        "three steps, t not floored": described(recipe.small_teacher(plain(floor=False))),
        "three steps, t per variance": described(recipe.small_teacher(recipe.adaptive(3))),
        "three steps, own K and rate": described(recipe.small_teacher(plain(k=8, rate=1.5))),
        "three steps, labels mixed in": described(recipe.small_teacher(t, 0.7, t_squared=False, soft_ends=(0.3, 0.6))),
        "three steps at fixed T": described(recipe.small_teacher(Fixed(T=4.5))),
        "three steps by schedule": described(recipe.small_teacher(Scheduled())),
        "three steps, falling exponentially": described(
            recipe.small_teacher(Scheduled(k=10, shape="exponential", floor=False))
        ),
        "big teacher only": described(recipe.big_teacher_only(t, alpha=0.9, soft_end=0.7)),
        "by the words of a command": described(
            Settings(student="cnn", teacher="resnet34", small_teacher="vgg19", normalised=False).stages(3)
        ),
        "teacher of a teacher": described((hop,), {"assistant": assistant}),
        "annealed logits": described(annealing.stages(20)),
        "complexity gap": described(complexity.stages(20)),
        "teacher held near": described(complexity.held_near(20)),
        "stopped early": described(annealing.stopped_early(20)),
        "steered": described(recipe.small_teacher(t), events=steered),
        "logits in float16": described(recipe.eq1(5), logits="float16"),
        "in bfloat16": described(recipe.eq1(5), precision="bfloat16"),
        "on a GPU": described(device="cuda"),
        "all images of a folder": described(
            data=DataSpec(**FIELDS | {"train_per_class": None, "test_per_class": None, "folder": "/images"})
        ),
        "labels of a level": described(data=LevelSpec(**FIELDS | {"role": "hrsc2016", "level": "ship"})),
        "a share held out": described(data=HeldOutSpec(**FIELDS | {"held_out": 0.4})),
        "a share held out at a level": described(data=HeldOutSpec(**FIELDS | {"held_out": 0.4, "level": "ship"})),
    }


def test_descriptions_and_hashes():
    """A run is described, titled and hashed as when its result was put into somebody's cache."""
    found = {
        name: {"hash": run.hash, "title": run.title, "description": run.model_dump(mode="json")}
        for name, run in kinds().items()
    }
    golden = pinned("descriptions.json", found)
    assert found.keys() == golden.keys()
    for name, kind in golden.items():
        assert found[name]["description"] == kind["description"], name
        assert (found[name]["hash"], found[name]["title"]) == (kind["hash"], kind["title"]), name
        assert hash_of(kind["description"]) == kind["hash"], name
    different = {json.dumps(kind["description"], sort_keys=True) for kind in golden.values()}
    assert len({kind["hash"] for kind in golden.values()}) == len(different)


def parts(value: object) -> Iterator[BaseModel]:
    """All that a description is made of."""
    if isinstance(value, BaseModel):
        yield value
        value = [getattr(value, name) for name in type(value).model_fields]
    elif isinstance(value, dict):
        value = list(value.values())
    for inner in value if isinstance(value, list | tuple) else ():
        yield from parts(inner)


def subclasses(kind: type) -> Iterator[type]:
    """Those of the kit; tests bring some of their own."""
    for each in kind.__subclasses__():
        yield from subclasses(each)
        if each.__module__.startswith("kit.") and each is not Falling:
            yield each


def test_no_kind_is_missing():
    """The pinned runs have every objective, temperature, network and data description of the kit, every word that a
    field of theirs may hold, and every field that is described only where it is not the default."""
    found = list(parts(list(kinds().values())))
    met = {type(part) for part in found}
    wanted = {*subclasses(Objective), *subclasses(Policy), *subclasses(DataSpec), DataSpec, Event}
    may_change = ("kit.siblings.", "kit.several.")
    assert {kind for kind in wanted if not kind.__module__.startswith(may_change)} <= met
    assert {HardLabels, Adaptive, Fixed, Scheduled} <= met  # in case one has another base some day
    assert set(get_args(Run.model_fields["student"].annotation)) <= met
    for kind in met - {Given}:  # which updates no weights
        for name, field in kind.model_fields.items():
            values = {
                json.dumps(part.model_dump(mode="json", exclude_defaults=False).get(name))
                for part in found
                if type(part) is kind
            }
            if get_origin(field.annotation) is Literal:
                usual = {json.dumps(field.default)} if not field.is_required() else set()
                assert {json.dumps(word) for word in get_args(field.annotation)} - usual <= values, name
            if field.annotation is bool:
                wanted = (
                    {json.dumps(not field.default), "null"} if field.exclude_if else {"true", "false"}
                )  # null: not described
                assert values == wanted, (kind, name)
            if field.exclude_if is not None:
                assert values - {"null"}, f"{kind.__name__}.{name} has its default everywhere"


# ---- the committed manifest ---------------------------------------------------------------------------------------


class Recorded(Plan):
    """A plan whose ship scenes, which take half a minute to draw, are not drawn but those that the manifest lists."""

    def data(self, role: str) -> DataSpec:
        if role != "hrsc2016":
            return super().data(role)
        size, listed = self.preset.roles[role], manifest()["07_gradcam"]["data"][role]
        sizes = {"px": size.px, "train_per_class": size.train_per_class, "test_per_class": size.test_per_class}
        return DataSpec(role=role, classes=13, train_images=971, **sizes, **listed)


def manifest() -> dict[str, Any]:
    committed = Path(__file__).parent.parent / "figures" / "manifest.json"
    return json.loads(committed.read_text(encoding="utf-8"))["notebooks"]


def test_the_committed_manifest_lists_these_runs():
    """The runs that the notebooks show at preset quick have the hashes under which the manifest lists them.

    Beyond them it lists runs of Table 4 that are only known after training: what searches found, told apart by their
    titles, as searched networks are "… of VGG-19".
    """
    plan = Recorded(preset_named("quick"), dict.fromkeys(table1.ROLES, "embedded"))
    assert {name for name, entry in manifest().items() if entry["runs"]} == set(NEEDS)
    for name, needs in NEEDS.items():
        listed, runs = manifest()[name]["runs"], {run.hash: run.title for run in runs_of(needs(plan, None))}
        assert runs.items() <= listed.items(), name
        beyond = listed.keys() - runs.keys()
        assert bool(beyond) == (name in FOLLOWING)
        assert beyond == {run_hash for run_hash, title in listed.items() if re.search(" of VGG-19 ", title)}


def test_ship_scenes(tmp_path):
    """A small tree of ship scenes, drawn, read, cropped: its fingerprint, as a part of what is left out above."""
    write_tree(tmp_path, TreePlan(train_scenes=4, test_scenes=2))
    found = {
        level: LevelSpec.of("hrsc2016", 24, source="real", folder=tmp_path, level=level) for level in ("ship", "type")
    }
    found = {level: spec.model_dump(mode="json") for level, spec in found.items()}
    assert found == pinned("ship_scenes.json", found)


# ---- pictures -----------------------------------------------------------------------------------------------------

CLASSES = {"cifar-10": 10, "cifar-100": 100, "imagenet": 20, "hrsc2016": 13}
DRAWN_BY = ("matplotlib", "numpy", "pandas", "pillow", "scipy")


class MadeUpData(DataSpec):
    def load(self) -> Dataset:
        return labelled(*[self.test_per_class] * self.classes)


class MadeUp(Plan):
    """A plan at preset smoke whose data are described, but not there."""

    def data(self, role: str) -> DataSpec:
        size, classes = self.preset.roles[role], CLASSES[role]
        sizes = {"px": size.px, "train_per_class": size.train_per_class, "test_per_class": size.test_per_class}
        images = {"classes": classes, "train_images": classes * size.train_per_class}
        return MadeUpData(role=role, name=f"made-up {role}", source="embedded", fingerprint="0" * 64, **sizes, **images)


def finished(rows):
    make_all(runs_of(rows))
    return train_all(runs_of(rows), jobs=1)


def draw(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of notebooks 00 and 02 to 06, as their cells draw and save them; of tables that look alike, one."""
    plan = MadeUp(preset_named("smoke"))

    row = table3.first_run(plan)
    results = finished([row])
    figure, numbers = paper_figures.temperature_figure(plan, row, results, "The temperature falls by itself")
    save(figure, "first_run_temperature", out, data=numbers)
    figure, numbers = paper_figures.accuracy_figure(plan, [row], results, "The student's accuracy")
    save(figure, "first_run_accuracy", out, data=numbers)

    rows = table2.table(plan, plan.preset.seeds)
    results = finished(rows)
    figure, numbers = paper_figures.figure_1(plan, rows, results)
    save(figure, "fig1", out, data=numbers)
    title = "Small teacher, big teacher, hard labels"
    figure, numbers = paper_figures.temperature_figure(plan, rows[-1], results, title)
    save(figure, "temperature_trace", out, data=numbers)
    swept = table3.rates(plan)
    figure, numbers = paper_figures.rates_figure(plan, swept, collect(swept, finished(swept)))
    save(figure, "rates", out, data=numbers)

    some = list(TABLE_3)[::3]  # of the eight configurations
    for name, table, own, drawn in (
        ("table1", table1, table1.table(plan, plan.preset.seeds), paper_figures.table_1),
        ("table2", table2, rows, paper_figures.table_2),
        ("table3", table3, table3.table(plan, plan.preset.seeds, some), paper_figures.table_3),
    ):
        frame = collect(own, finished(own))
        save(drawn(plan, own, frame), name, out, data=table.summary(frame))
        claims = table.verdicts(frame, plan)
        (out / f"{name}_verdicts.csv").write_bytes(csv_bytes(claims))
    figure = paper_figures.verdicts(plan, own, claims, "Section 2.4's claims, judged")  # one stands for all
    save(figure, "table3_verdicts", out, data=claims)
    (out / "headlines_printed.csv").write_bytes(csv_bytes(headlines.recomputed()))

    def making(runs, *how):
        make_all(runs)
        return train_all(runs, *how)

    monkeypatch.setattr(table4, "train_all", making)  # whose runs for equal time follow from the seconds of the others
    unsearched = [method for method in METHODS if not method.search]
    comparison = table4.compare(plan, plan.preset.seeds, 1, methods=unsearched, show_progress=False, equal_time=True)
    frame, claims = comparison.frame, table4.verdicts(comparison.frame, plan)
    (out / "table4_readings.csv").write_bytes(csv_bytes(table4.readings(frame)))
    (out / "table4_claims.csv").write_bytes(csv_bytes(claims))
    for name in ("chain", "annealing", "ours"):
        figure, numbers = getattr(table4_figures, f"{name}_figure")(comparison)
        save(figure, f"table4_{name}", out, data=numbers)
    save(table4_figures.table_4(comparison, "steps"), "table4", out, data=table4.summary(frame))
    save(table4_figures.table_4(comparison, "time"), "table4_equal_time", out, data=frame)
    headline = claims[table4_figures.headline(claims)]
    save(table4_figures.verdicts(comparison, headline, "Table 4's claims, judged"), "table4_verdicts", out)


def test_pictures_of_a_made_cache(own_cache, tmp_path, monkeypatch):
    """The same numbers give the same pictures and tables, byte for byte, for the pinned versions of what draws them."""
    constraints = (Path(__file__).parent.parent / "constraints.txt").read_text()
    wanted = {name: re.search(rf"(?mi)^{name}==(.+)$", constraints)[1] for name in DRAWN_BY}
    here = {name: version(name) for name in DRAWN_BY}
    if here != wanted:
        pytest.skip(f"pictures are pinned for {wanted}; here are {here}")
    draw(tmp_path / "out", monkeypatch)
    found = {"versions": here, "sha256": {path.name: sha256(path) for path in sorted((tmp_path / "out").iterdir())}}
    golden = pinned("smoke_figures.json", found)
    assert golden["versions"] == wanted, "constraints.txt has moved on: look at the pictures, and set the pins anew"
    differ = sorted(
        name for name in found["sha256"] | golden["sha256"] if found["sha256"].get(name) != golden["sha256"].get(name)
    )
    assert not differ, f"see {tmp_path / 'out'}"
