"""Bad input by machine: whatever is fed in, the outcome is a right result or an error of one line.

KIT_FUZZ_CASES sets how many cases there are in all (2,400 unless given); the same number tries the same cases.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hrsc_trees import BURKE, NIMITZ, scene_xml, ship_xml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from small_runs import hard
from small_trainings import DATA, history, linear, same_weights

from kit.data.hrsc.format import CLASSES, DamagedFile, read_annotation
from kit.data.picture import decode_file
from kit.errors import KitError, one_line
from kit.figures import Manifest, Request
from kit.recipe import Eq1, HardLabels, Improved, Recipe, Stage
from kit.runs.checkpoint import Checkpoints
from kit.runs.store import find
from kit.runs.training import train
from kit.temperature import Adaptive, Fixed, Scheduled
from kit.trainer import Training

CASES = int(os.environ.get("KIT_FUZZ_CASES", "2400"))
SHARES = {"recipes": 14, "training": 3, "xml": 20, "images": 14, "runs": 16, "checkpoints": 3, "manifests": 14,
          "parameters": 14}  # fmt: skip


def cases(name: str) -> settings:
    share = math.ceil(CASES * SHARES[name] / sum(SHARES.values()))
    unhelpful = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    return settings(max_examples=share, deadline=None, derandomize=True, database=None, suppress_health_check=unhelpful)


@st.composite
def mutated(draw, content: bytes) -> bytes:
    """The bytes with one to four things done to them: cut, overwritten, doubled, or given what parsers trip over."""
    words = [b"", b"\0", b"\xff\xfe", b"<", b"&a;", b'"', b"-1", b"nan", b"1e999", b"\n", b"../"]
    words += [b"9" * 5000, b"[" * 3000]
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.integers(0, 40)))
        middle = draw(st.sampled_from(words) | st.binary(max_size=6) | st.just(content[start:stop] * 2))
        content = content[:start] + middle + content[stop:]
        if draw(st.integers(0, 9)) == 0:
            content = content[:start]
    return content


def single(error: Exception) -> None:
    message = one_line(error) if isinstance(error, ValidationError) else str(error)
    assert message
    assert len(message.splitlines()) == 1, message


# ---- recipes ---------------------------------------------------------------------------------------------------------

NUMBERS = st.integers(-3, 200) | st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0, 1, 0.5, 1e-300])
ODD = NUMBERS | st.none() | st.booleans() | st.text(max_size=4) | st.lists(st.integers(), max_size=2)


POSITIVE, SHARE = st.floats(1e-3, 50), st.floats(0, 1)
POLICIES = {
    Fixed: {"T": POSITIVE},
    Adaptive: {"rate": POSITIVE, "k": st.floats(1, 40), "optimiser": st.sampled_from(["sgd", "adam"])},
    Scheduled: {"k": st.floats(1, 40), "shape": st.sampled_from(["linear", "exponential"]), "floor": st.booleans()},
}
OBJECTIVES = {
    HardLabels: {},
    Eq1: {"alpha": SHARE, "reading": st.sampled_from(["printed", "hinton"])},
    Improved: {"alpha": SHARE, "t_squared": st.booleans()},
}
OTHERS = {
    "epochs": st.integers(1, 4),
    "batch": st.integers(2, 64),
    "lr": st.floats(1e-4, 0.2),
    "warmup": st.floats(0, 0.9),
    "momentum": st.floats(0, 0.95),
    "pad": st.integers(0, 2),
}


@st.composite
def recipes(draw, odd: bool = False) -> Recipe:
    """A recipe of usual arguments; where `odd`, of some that are not, or the error that they raise."""

    def made(kind: type, usual: dict, **given) -> object:
        fields = {name: values | ODD if odd and draw(st.booleans()) else values for name, values in usual.items()}
        return kind(**given | {name: draw(values) for name, values in fields.items()})

    ends = draw(st.lists(st.sampled_from([0.2, 0.4, 0.5, 0.7]), max_size=3, unique=True).map(sorted))
    ends += [draw(ODD)] if odd and draw(st.booleans()) else [1]
    stages = []
    for end in ends:
        kind = draw(st.sampled_from(list(OBJECTIVES)))
        policy = draw(st.sampled_from(list(POLICIES)))
        taught = kind.needs_teacher != (odd and draw(st.integers(0, 5)) == 0)
        temperature = made(policy, POLICIES[policy]) if taught else None
        teacher = draw(st.sampled_from(["big", "small"])) if taught else None
        objective = made(kind, OBJECTIVES[kind])
        stages.append(Stage(name="s", objective=objective, teacher=teacher, temperature=temperature, until=end))
    surplus = {"surplus": 1} if odd and draw(st.integers(0, 5)) == 0 else {}
    return made(Recipe, OTHERS, stages=tuple(stages), **surplus)


@cases("recipes")
@given(st.data())
def test_a_recipe_is_right_or_refused_in_one_line(data):
    try:
        made = data.draw(recipes(odd=data.draw(st.booleans())))
    except (ValidationError, KitError) as error:
        return single(error)
    assert made.epochs >= 1
    assert made.stages[-1].until == 1
    assert all(0 < a.until < b.until for a, b in zip(made.stages, made.stages[1:], strict=False))
    for value in _numbers(made.model_dump()):
        assert math.isfinite(value)
    written = made.model_dump(mode="json")
    assert json.loads(json.dumps(written)) == written  # it survives being written down


def _numbers(value: object):
    if isinstance(value, dict):
        for inner in value.values():
            yield from _numbers(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _numbers(inner)
    elif isinstance(value, (int, float)):
        yield value


@cases("training")
@given(st.data())
def test_any_allowed_recipe_trains_and_goes_on_from_anywhere(tmp_path_factory, data):
    """Stages account for every step within their budgets, and a stop at a random step changes nothing."""
    made = data.draw(recipes()).model_copy(update={"batch": 16})

    def fresh() -> Training:
        return Training(made, DATA, linear(1), {"small": linear(2), "big": linear(3)}, seed=5)

    try:
        whole = fresh().run()
    except RuntimeError as error:  # Diverged
        return single(error)
    assert sum(stage.steps for stage in whole.stages) == whole.total_steps == len(whole.steps())
    assert all(stage.ended_by in ("temperature", "budget") for stage in whole.stages)
    for stage, end in zip(made.stages, np.cumsum([s.steps for s in whole.stages]), strict=False):
        assert end <= round(stage.until * whole.total_steps)
    for row in whole.steps():
        assert 0 <= row["lr"] <= made.lr
        assert 0 <= row["batch_top1"] <= 1
    step, folder = data.draw(st.integers(1, whole.total_steps)), tmp_path_factory.mktemp("c")
    stopped = fresh()
    for done in stopped:
        if done == step:
            break
    Checkpoints(folder, {}).save(stopped)
    again = fresh()
    Checkpoints(folder, {}).resume(again)
    assert again.step == step
    again.run()
    assert history(again) == history(whole)
    assert same_weights(again.student, whole.student)
    shutil.rmtree(folder)


# ---- annotations and images ------------------------------------------------------------------------------------------

SHIPS = ship_xml(NIMITZ) + ship_xml(BURKE, (20, 10, 30, 20), (25, 15, 12, 4, 0.7), difficult=1, seg_color="1,2,3")
XML = scene_xml("100000009", SHIPS).encode()


@cases("xml")
@given(mutated(XML) | st.binary(max_size=40))
def test_an_annotation_is_right_or_refused_in_one_line(scratch, content):
    path = scratch / "100000009.xml"
    path.write_bytes(content)
    try:
        scene = read_annotation(path)
    except DamagedFile as error:
        return single(error)
    width, height = scene.size
    assert width >= 1
    assert height >= 1
    for ship in scene.ships:
        assert ship.class_id in CLASSES
        assert 0 <= ship.box.xmin < ship.box.xmax <= width
        assert 0 <= ship.box.ymin < ship.box.ymax <= height
        assert ship.mbox.w >= ship.mbox.h > 0
        assert np.isfinite(ship.mbox).all()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@cache
def picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()


@cases("images")
@given(st.sampled_from(["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"]).flatmap(lambda kind: mutated(picture(kind))))
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_is_right_or_left_out_with_one_line(scratch, content):
    path = scratch / "image"
    path.write_bytes(content)
    decoded = decode_file(path, 8)
    assert decoded.file_hash == f"{len(content)} {hashlib.sha256(content).hexdigest()}"
    if decoded.pixels is None:
        assert len(decoded.reason.splitlines()) == 1
    else:
        assert (decoded.pixels.shape, decoded.pixels.dtype, decoded.reason) == ((8, 8, 3), np.uint8, "")


# ---- what the kit itself has written ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run in a cache of its own, and its files as they were written."""
    place = tmp_path_factory.mktemp("fuzzed cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIT_CACHE", str(place))
        result = train(hard())
        yield result, {path.name: path.read_bytes() for path in result.folder.iterdir()}


@cases("runs")
@given(st.data())
def test_a_run_is_as_it_was_written_or_refused_in_one_line(finished, data):
    """Files altered, taken away or exchanged; in half of the cases by someone who also sets the checksum right."""
    result, files = finished
    shutil.rmtree(result.folder)
    result.folder.mkdir()
    name = data.draw(st.sampled_from(sorted(files)))
    content = data.draw(mutated(files[name]) | st.sampled_from(list(files.values())) | st.none())
    altered = files | {name: content}
    if content is not None and name != "checksums.json" and data.draw(st.booleans()):
        checksums = json.loads(files["checksums.json"]) | {name: hashlib.sha256(content).hexdigest()}
        altered["checksums.json"] = json.dumps(checksums).encode()
    for file, what in altered.items():
        if what is not None:
            (result.folder / file).write_bytes(what)
    try:
        found = find(hard())
        student = found.student()
    except KitError as error:
        return single(error)
    assert {"test_top1", "cpu_s"} <= set(found.metrics)
    assert not student.training
    if altered["checksums.json"] == files["checksums.json"]:
        assert altered == files  # checksums let nothing through


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    place = tmp_path_factory.mktemp("fuzzed checkpoints")
    training = Training(hard().recipe, DATA, linear(1), {}, seed=5)
    for step in training:
        if step in (3, 5):
            Checkpoints(place, {}).save(training)
        if step == 5:
            return place


@cases("checkpoints")
@given(st.data())
def test_a_checkpoint_is_used_whole_or_not_at_all(stopped, capsys, tmp_path_factory, data):
    place = tmp_path_factory.mktemp("c") / "run"
    shutil.copytree(stopped, place)
    folder = place / data.draw(st.sampled_from(["step-000000003", "step-000000005"]))
    file = folder / data.draw(st.sampled_from(["state.json", "state.safetensors", "checksums.json"]))
    content = file.read_bytes()
    file.write_bytes(changed := data.draw(mutated(content)))
    again, checkpoints = Training(hard().recipe, DATA, linear(1), {}, seed=5), Checkpoints(place, {})
    checkpoints.resume(again)
    capsys.readouterr()
    newest_hurt = folder.name == "step-000000005" and not _same(file.name, content, changed)
    assert again.step == (3 if newest_hurt else 5)
    assert len(checkpoints.notes) == newest_hurt
    shutil.rmtree(place.parent)


def _same(name: str, content: bytes, changed: bytes) -> bool:
    """Whether a file says the same: checksums.json may be written in many ways, the others are what they are."""
    if name != "checksums.json":
        return content == changed
    try:
        return json.loads(content) == json.loads(changed)
    except (ValueError, RecursionError):
        return False


MANIFEST = {
    "notebooks": {
        "00_first": {"inputs": "a" * 64, "parameters": {}, "runs": {}, "failed": {}, "data": {}, "versions": {}}
    },
    "artefacts": {"one.png": {"notebook": "00_first", "sha256": "b" * 64}},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["notebooks", "artefacts", "00_first", "inputs", "../x", "notebook"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@cases("manifests")
@given(mutated(json.dumps(MANIFEST).encode()) | JSON.map(lambda value: json.dumps(value).encode()))
def test_a_manifest_is_read_or_refused_in_one_line(scratch, content):
    folder = scratch / "pictures"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_bytes(content)
    try:
        manifest = Manifest(folder)
        current = manifest.is_current("00_first", "a" * 64)
    except KitError as error:
        assert "manifest.json" in str(error)
        return single(error)
    assert all("/" not in name and name not in ("", ".", "..") for name in manifest.content["artefacts"])
    here = [about for about in manifest.content["artefacts"].values() if about["notebook"] == "00_first"]
    assert not (current and here)  # none of its pictures is there


@cases("parameters")
@given(
    st.dictionaries(
        st.sampled_from(["preset", "seeds", "role_data", "data", "jobs", "word", "networks"]),
        JSON
        | st.sampled_from(
            ["smoke", "quick", "/", "\0", {"cifar-10": "embedded"}, {"cifar-10": "x"}, {"mnist": "real"}]
        ),
        max_size=4,
    )
)
def test_notebook_parameters_are_settled_or_refused_in_one_line(extra):
    try:
        settled = Request(preset="smoke", jobs=1, extra=extra).settled()
        plan = settled.plan
        data = plan.data("cifar-10")
    except KitError as error:
        return single(error)
    assert plan.preset.name in ("smoke", "quick", "paper")
    assert settled.seeds is None or settled.seeds >= 1
    assert settled.jobs is None or settled.jobs >= 1
    assert set(settled.role_data) <= {"cifar-10", "cifar-100", "imagenet", "hrsc2016"}
    assert data.source in ("embedded", "real")
    assert isinstance(settled.extra.get("networks", {}), dict)
    assert json.loads(json.dumps(settled.parameters()["seeds"])) == settled.seeds
