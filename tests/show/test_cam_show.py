"""Heat maps on the screen and on disk: overlays, the widget, the grid, and `python -m kit cam`."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from unittest.mock import Mock

import commands
import numpy as np
import pandas as pd
import pytest
import torch
from drawn_texts import cut, drawn_texts
from foreign_networks import FILE, own_file
from foreign_networks import named as named_spec
from matplotlib.text import Text
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from kit.__main__ import main
from kit.cam.heat_maps import maps
from kit.data import load
from kit.data.picture import decode_file
from kit.grid.training import train_all
from kit.models import build
from kit.paper import figure2
from kit.paper.figure2 import Scenes
from kit.paper.plan import Plan, runs_of
from kit.show import cam_figures, cam_widget
from kit.show.cam_figures import enlarged, overlay
from kit.show.cam_widget import cam_explorer, named

# ---- pictures --------------------------------------------------------------------------------------------------------

PIXELS = np.array([[[200, 100, 0], [10, 20, 30]]], np.uint8)  # (1, 2, 3)


def test_an_overlay_goes_from_the_image_to_the_map():
    heat = np.array([[0.0, 1.0]])
    np.testing.assert_array_equal(overlay(PIXELS, heat, 0), PIXELS)
    cold, hot = overlay(PIXELS, heat, 1)[0]
    assert cold.sum() < 30 and hot.sum() > 500  # the ends of inferno: near black, pale yellow
    half = overlay(PIXELS, heat, 0.5)[0].astype(int)
    np.testing.assert_allclose(half[0], (100 + cold.astype(int)) / 2, atol=1)  # 100: the pixel's grey
    np.testing.assert_allclose(half[1], (20 + hot.astype(int)) / 2, atol=1)


def test_overlays_are_enlarged_by_whole_factors_and_boxed():
    picture = enlarged(np.zeros((32, 32, 3), np.uint8), (8, 8, 16, 24), side=256)
    assert picture.shape == (256, 256, 3)
    rows, columns = picture.any(2).nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (64, 192, 64, 128)


@pytest.fixture(scope="module")
def grid():
    plan = Plan.of("smoke", first_seed=7)
    rows = figure2.table(plan, 1, readings=("printed",), explained=("vgg19",))
    return plan, rows, *cam_figures.look(rows, train_all(runs_of(rows), show_progress=False))


def test_the_grid_has_a_picture_for_every_image_and_network(grid):
    plan, rows, scenes, subjects, frame = grid
    chosen = figure2.shown(frame, drawn=2, extremes=1)
    figure = cam_figures.fig2(subjects, scenes, frame, chosen, plan, rows)
    pictures = [ax for ax in figure.axes if ax.images]
    assert len(chosen) == 4 and len(pictures) >= 4 * (1 + 1 + 3)  # the image, VGG-19, its three students
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert {"T=5", "T=20", "adaptive", "VGG-19\nexplained", "ResNet-34 taught by VGG-19"} <= set(texts)
    first = next(iter(chosen))
    line = frame[(frame["temperature"] == "T=5") & (frame["image"] == first)].iloc[0]
    expected = "empty map" if line["empty"] else f"{100 * line['energy_mask']:.0f} %"
    assert f"{expected} {'✓' if line['correct'] else '✗'}" in texts
    assert not cut(figure, drawn_texts(figure))


def tables(frame, plan, rows) -> list:
    return [
        cam_figures.score_table(frame, plan, rows),
        cam_figures.agreement_table(frame, plan, rows),
        cam_figures.comparison_table(frame, plan, rows),
        cam_figures.sanity_table(frame, plan, rows),
        cam_figures.cam_verdicts(figure2.verdicts(frame, plan), plan, rows),
    ]


def test_tables_of_scores_keep_their_text_inside(grid):
    plan, rows, _, _, frame = grid
    for table in tables(frame, plan, rows):
        picture = table.picture()
        assert not cut(picture, drawn_texts(picture))


def test_without_segmentations_and_marks_no_word_is_said_of_hulls_and_shortcuts(grid):
    plan, rows, scenes, subjects, with_hulls = grid
    data = replace(scenes.data, region="oriented box", shortcuts=torch.zeros_like(scenes.data.shortcuts))
    scenes = Scenes.of(data)
    frame = figure2.scores(subjects, scenes)
    pd.testing.assert_frame_equal(frame, with_hulls.drop(columns="energy_shortcut"))  # the masks are the same
    figure = cam_figures.fig2(subjects, scenes, frame, figure2.shown(frame, drawn=2, extremes=1), plan, rows)
    figure_words = " ".join(text.get_text() for text in figure.findobj(Text))
    widget_words = cam_explorer(named(subjects), scenes, [0]).numbers.value
    drawn = [" ".join(text.get_text() for text in t.picture().findobj(Text)) for t in tables(frame, plan, rows)]
    told = [figure_words, widget_words, *drawn]
    for words in told:
        assert "hull" not in words and "shortcut" not in words, words
    assert [bool(re.search(r"oriented\s+box", words)) for words in told] == [True, True, True, False, True, True, True]
    claims = {claim.text for claim in figure2.claims(frame)}
    assert claims < {c.text.replace("hull", "oriented box") for c in figure2.claims(with_hulls)} and len(claims) == 7


def test_of_a_role_without_regions_no_word_is_said_of_any(grid):
    plan, rows, scenes, subjects, _ = grid
    scenes = replace(scenes, masks=None, boxes=None, shortcuts=None)
    frame = figure2.scores(subjects, scenes)
    figure = cam_figures.fig2(subjects, scenes, frame, figure2.shown(frame, drawn=2, extremes=1), plan, rows)
    drawn = [figure, *(table.picture() for table in tables(frame, plan, rows))]
    for words in (" ".join(text.get_text() for text in each.findobj(Text)) for each in drawn):
        assert not re.search("hull|outlined|energy|image, box", words), words


def test_where_no_student_at_a_fixed_t_finished_the_tables_are_there(grid):
    plan, rows, _, _, frame = grid
    lost = frame[~frame["temperature"].isin(["T=5", "T=20"])]
    _, _, against, *_ = drawn = tables(lost, plan, rows)
    assert "no student at a fixed T finished" in against.html
    for table in drawn:
        table.picture()


# ---- the widget ------------------------------------------------------------------------------------------------------


def test_every_control_redraws_and_the_slider_computes_nothing(grid, monkeypatch):
    _, _, scenes, subjects, _ = grid
    computed = Mock(wraps=maps)
    monkeypatch.setattr(cam_widget, "maps", computed)
    explorer = cam_explorer(named(subjects), scenes, [0, 3, 5])
    assert explorer.network.options[0] == "VGG-19, explained"
    picture, numbers = explorer.picture.value, explorer.numbers.value
    assert bytes(picture[:4]) == b"\x89PNG" and "true class" in numbers
    explorer.blend.value = 0.0
    assert explorer.picture.value != picture and explorer.numbers.value == numbers and computed.call_count == 1
    adaptive = next(name for name in explorer.network.options if "adaptive" in name)
    for control, value in (
        ("image", 5), ("target", "predicted"), ("target", 2), ("method", "layer-cam"), ("network", adaptive),
        ("layer", "layer2"),
    ):  # fmt: skip
        before = computed.call_count
        getattr(explorer, control).value = value
        assert computed.call_count == before + 1, control
    assert "layer2" in explorer.numbers.value
    explorer.blend.value = 1.0
    seen = explorer.picture.value
    explorer.image.value = 3
    assert explorer.picture.value != seen
    before = computed.call_count
    explorer.image.value = 5
    assert explorer.picture.value == seen and computed.call_count == before  # kept


def test_what_has_no_map_is_said_beside_the_image(grid):
    class Branched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Conv2d(3, 13, 3), nn.Conv2d(3, 2, 3)

        def forward(self, x):
            self.idle(x)
            return self.used(x).mean((2, 3))

    _, _, scenes, _, _ = grid
    explorer = cam_explorer({"own": Branched()}, scenes, [0])
    explorer.blend.value = 0.0
    image = explorer.picture.value
    explorer.blend.value = 1.0
    assert explorer.picture.value != image
    explorer.layer.value = "idle"
    assert "layer &#x27;idle&#x27; has no part in the logits" in explorer.numbers.value
    assert explorer.picture.value == image  # alone


# ---- python -m kit cam -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(grid):
    return grid[1][0].runs[0]


@pytest.fixture
def folder(tmp_path):
    images = tmp_path / "images"
    (images / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (16, 16)), ("b.jpg", (40, 20)), ("more/c.bmp", (16, 16))):
        Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(images / name)
    (images / "notes.txt").write_text("not an image")
    return images


def refused(words: list[object], capsys) -> str:
    return commands.refused(["cam", *map(str, words)], capsys)


def test_a_runs_maps_of_a_folder(run, folder, tmp_path, capsys):
    out = tmp_path / "out"
    (folder / "boxes.csv").write_text("image,xmin,ymin,xmax,ymax\na.png,4,4,12,12\nb.jpg,10,0,30,20\n")
    assert main(["cam", "--run", run.hash, "--images", str(folder), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    table = pd.read_csv(out / "cam.csv")
    assert table["image"].tolist() == ["a.png", "b.jpg", "more/c.bmp"] == [line["image"] for line in told["maps"]]
    assert {path.name for path in out.iterdir()} == {"a.png.png", "b.jpg.png", "more_c.bmp.png", "cam.png", "cam.csv"}
    assert Image.open(out / "more_c.bmp.png").size == (256, 256)
    assert (table["class"] == table["predicted"]).all() and table["probability"].between(0, 1).all()
    assert np.isnan(table["iou"][2])  # no box is known
    known = table[:2][table["empty"][:2] == 0]
    assert known["energy_box"].between(0, 1).all() and known["iou"].between(0, 1).all()


def test_a_runs_own_test_images_are_scored_by_their_true_class(run, tmp_path):
    words = ["cam", "--run", run.hash, "--out", str(tmp_path), "--limit", "6", "--method", "layer-cam"]
    assert main([*words, "--layer", "layer2"]) == 0
    table = pd.read_csv(tmp_path / "cam.csv")
    data = run.data.load()
    some = torch.linspace(0, len(data.test) - 1, 6).long()
    assert table["class"].tolist() == [data.classes[i] for i in data.test.labels[some].tolist()]
    assert set(table["layer"]) == {"layer2"} and set(table["method"]) == {"layer-cam"}
    assert {"pointing", "energy_box", "iou"} <= set(table.columns)


def test_weights_of_ones_own(folder, tmp_path, capsys):
    network = build("cnn", 2, width=4, stem="small", seed=3)
    with torch.no_grad():
        network.fc.bias.copy_(torch.tensor([0.0, 50.0]))
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    words = ["cam", "--weights", tmp_path / "w.safetensors", "--images", folder, "--out", tmp_path / "out"]
    words += ["--model", "cnn", "--classes", "cat,dog", "--width", "4", "--stem", "small", "--px", "24"]
    assert main([*map(str, words), "--class", "cat"]) == 0
    table = pd.read_csv(tmp_path / "out" / "cam.csv")
    assert set(table["predicted"]) == {"dog"} and set(table["class"]) == {"cat"}
    capsys.readouterr()
    assert "do not fit CNN: of another shape: features.0.weight (4, 3, 3, 3) rather than (8, 3, 3, 3)" in refused(
        [*words[1:], "--width", "8"], capsys
    )
    assert "class 'cow' is not known; allowed: predicted, 0 to 1, or cat, dog" in refused(
        [*words[1:], "--class", "cow"], capsys
    )
    assert "class 2 is out of range; allowed: 0 to 1" in refused([*words[1:], "--class", "2"], capsys)
    assert "class 'true' is not known" in refused([*words[1:], "--class", "true"], capsys)


def test_weights_of_any_network(folder, tmp_path, capsys):
    own = own_file(tmp_path, FILE.replace("print(", "str("))
    network = named_spec(f"{own}:tiny", 24, depth=2)
    torch.save({"state_dict": network.build(3).state_dict()}, tmp_path / "w.pth")
    words = ["--weights", tmp_path / "w.pth", "--images", folder, "--out", tmp_path / "out", "--px", "24"]
    words += ["--model", f"{own}:tiny", "--classes", "10", "--args", '{"depth": 2}']
    assert main(["cam", *map(str, words), "--normalise", "0.5/0.2,0.25,0.3", "--class", "4"]) == 0
    table = pd.read_csv(tmp_path / "out" / "cam.csv")
    pixels = torch.from_numpy(decode_file(folder / "a.png", 24).pixels.copy())
    with torch.no_grad():
        x = (pixels / 255 - 0.5) / torch.tensor([0.2, 0.25, 0.3])
        p = network.build(3).eval()(x.permute(2, 0, 1)[None]).softmax(1)[0, 4]
    assert table["probability"][0] == pytest.approx(float(p), abs=1e-5)
    capsys.readouterr()
    flat = ["--model", f"{own}:flat", "--px", "16"]
    torch.save(named_spec(f"{own}:flat").build(0).state_dict(), tmp_path / "w.pth")
    assert "Sequential has no convolution; allowed: " in refused([*words[:-2], *flat], capsys)
    for further, said in {
        ("--normalise", "role"): "normalisation 'role' is of a training's images; allowed: imagenet or MEAN/STD",
        ("--width", "3"): "width 3 is not allowed; allowed: for cnn, vgg16",
        ("--args", "[2]"): "--args '[2]' is not allowed; allowed: a JSON object",
        ("--args", "{}"): "w.pth' do not fit my_nets.py:tiny: missing: 0.weight, ",
        ("--model", "cnn"): "model 'cnn' has no arguments; allowed: for torchvision:NAME",
        ("--model", "timm:resnet10"): "network 'timm:resnet10' is not known; nearest: resnet10t",
        ("--classes", "1"): "--classes '1' is not allowed; allowed: their number, 2 to ",
        ("--classes", "99999999999"): "--classes '99999999999' is not allowed",
        ("--classes", "cat,,dog"): "--classes 'cat,,dog' is not allowed",
        ("--classes", "cat,dog,cat"): "or two names and more, each once",
        ("--data", "pets"): "--data 'pets' is for --run",
    }.items():
        assert said in refused([*words, *further], capsys)
    for option, value in (("px", 24), ("px", 224), ("normalise", "imagenet")):  # what it would be, too
        line = refused(["--run", "0" * 16, f"--{option}", value], capsys)
        assert f"--{option} {value!r} is for --weights; allowed: none with --run, which has its own" in line


def test_wrong_input_is_one_line(run, folder, tmp_path, capsys):
    out = ["--out", tmp_path / "out"]
    of_run = ["--run", run.hash, "--images", folder, *out]
    line = refused([*of_run, "--layer", "layer9"], capsys)
    assert "layer 'layer9' is not known; allowed: layer4, " in line and line.endswith(" more")
    line = refused([*of_run, "--limit", "3"], capsys)
    assert "--limit 3 is for a run's test split; allowed: none with --images, which are all explained" in line
    assert "method 'cam' is not known" in refused([*of_run, "--method", "cam"], capsys)
    for word, said in {
        "99": "out of range; allowed: 0 to 12",
        "-5": "out of range",
        "--5": "known",
        "- 5": "known",
    }.items():
        line = refused([*of_run, f"--class={word}"], capsys)
        assert word in line and said in line and "allowed: " in line
    for unknown in ("0123456789abcdef", "../runs", ""):
        assert f"run {unknown!r} is not in the cache" in refused(["--run", unknown, "--images", folder, *out], capsys)
    assert "either --run HASH or --weights FILE" in refused(["--images", folder, *out], capsys)
    absent = ["--run", run.hash, "--images", folder / "none", *out]
    assert "are not there; allowed: a picture, or a folder" in refused(absent, capsys)
    for within in (folder, folder / "more" / "out"):
        assert "lies in --images; allowed: a folder outside" in refused([*of_run, "--out", within], capsys)
    weights = tmp_path / "w.safetensors"
    words = ["--weights", weights, "--images", folder, "--model", "cnn", "--classes", "2", *out]
    assert "cannot be read (No such file or directory)" in refused(words, capsys)
    weights.write_bytes(b"not weights")
    line = refused(words, capsys)
    assert f"weights '{weights}' cannot be read (" in line and "allowed: a safetensors file" in line
    assert "--weights needs --model and --classes" in refused(words[:4], capsys)
    assert "--weights needs --images" in refused(words[:2], capsys)
    (folder / "boxes.csv").write_text("image,left\na.png,1\n")
    assert "boxes.csv is not readable" in refused(of_run, capsys)
    assert not (tmp_path / "out").exists()


def test_damaged_images_are_named_and_the_others_drawn(run, folder, tmp_path, capsys):
    (folder / "b.jpg").write_bytes((folder / "b.jpg").read_bytes()[:200])
    (folder / "d.png").write_text("no picture")
    status = main(["cam", "--run", run.hash, "--images", str(folder), "--out", str(tmp_path / "out")])
    told = capsys.readouterr().err.splitlines()
    assert status == 2 and len(told) == 2
    assert told[0].startswith("  damaged: b.jpg: ") and told[1] == "  damaged: d.png: not an image"
    assert pd.read_csv(tmp_path / "out" / "cam.csv")["image"].tolist() == ["a.png", "more/c.bmp"]
    for name in ("a.png", "more/c.bmp"):
        (folder / name).unlink()
    words = ["--run", run.hash, "--images", folder, "--out", tmp_path / "out"]
    assert "holds no readable image, first b.jpg: " in refused(words, capsys)
    for name in ("b.jpg", "d.png"):
        (folder / name).unlink()
    assert "holds no images; allowed: .jpg, " in refused(words, capsys)


def test_a_network_without_convolution_has_no_maps(tmp_path):
    from kit.deploy.predictions import Classifier
    from kit.errors import KitError
    from kit.show.cam_folder import Pictures, explain

    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))
    mean_std = torch.zeros(3), torch.ones(3)
    with pytest.raises(KitError, match="has no convolution"):
        explain(
            Classifier(linear, 8, *mean_std, ("a", "b")),
            Pictures(("x",), torch.zeros(1, 8, 8, 3, dtype=torch.uint8)),
            "linear",
            tmp_path,
        )


def test_boxes_of_the_role_are_those_scored():
    data = load("hrsc2016", px=16, train_per_class=2, test_per_class=1, source="embedded")
    scenes = Scenes.of(data)
    assert (scenes.masks & ~scenes.boxes).sum() < 0.05 * scenes.masks.sum()  # hulls lie in their boxes
