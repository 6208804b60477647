"""Networks by name: what describes them, and what is refused by name. What they go through: `test_foreign.py`."""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from commands import one_line
from foreign_networks import FILE, named, own_file, trained
from pydantic import ValidationError
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kit.errors import KitError
from kit.files import cache_folder
from kit.models import ModelSpec
from kit.networks.flops import flops_per_image
from kit.networks.folding import folded
from kit.networks.layered import Layer, LayeredSpec
from kit.networks.named import NamedSpec, described
from kit.paper.settings import Settings
from kit.runs.store import folder_of, stored
from kit.runs.training import train

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return own_file(tmp_path_factory.mktemp("own"))


def of(name: str, own: Path, **arguments: object) -> NamedSpec:
    return named(name.replace("OWN", str(own)), **arguments)


def test_the_networks_are_the_libraries_own(own):
    torch.manual_seed(3)
    theirs = torchvision.models.shufflenet_v2_x0_5(num_classes=10)
    ours = named("torchvision:shufflenet_v2_x0_5").build(seed=3)
    assert all(torch.equal(a, b) for a, b in zip(theirs.state_dict().values(), ours.state_dict().values(), strict=True))
    torch.manual_seed(3)
    theirs = timm.create_model("test_resnet", num_classes=10)
    before = torch.get_rng_state()
    ours = named("timm:test_resnet").build(seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(theirs.state_dict().values(), ours.state_dict().values(), strict=True))


# ---- identity -----------------------------------------------------------------------------------------------------


def test_a_description_is_its_own_kind(own):
    kinds = [
        ModelSpec(name="cnn", classes=3),
        LayeredSpec(layers=(Layer(channels=2),), classes=3),
        named("timm:test_resnet"),
        of("OWN:tiny", own, depth=2),
    ]
    for kind in kinds:
        again = described(json.loads(kind.model_dump_json()))
        assert type(again) is type(kind)
        assert again.model_dump() == kind.model_dump()
        assert pickle.loads(pickle.dumps(kind)) == kind
    assert "path" not in kinds[-1].model_dump()
    assert pickle.loads(pickle.dumps(kinds[-1])).path == str(own)  # a worker must find it


def test_code_and_arguments_decide_and_its_place_does_not(own, tmp_path):
    run = trained(of("OWN:tiny", own))
    elsewhere = trained(named(f"{own_file(tmp_path)}:tiny"))
    assert elsewhere.hash == run.hash
    assert trained(of("OWN:tiny", own, depth=1)).hash != run.hash  # said, though it is the default
    own_file(tmp_path, FILE + "\n# changed\n")
    changed = trained(named(f"{tmp_path}/my_nets.py:tiny"))
    assert changed.hash != run.hash
    assert changed.student.shapes == run.student.shapes


def test_a_student_of_code_that_has_changed_can_still_be_used(own, tmp_path):
    run = trained(named(f"{own_file(tmp_path)}:tiny"))
    weights = train(run).student().state_dict()
    own_file(tmp_path, FILE.replace("class Two", "class Three"))
    again = stored(run.hash).student().state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in weights.items())
    kept = cache_folder() / "code" / f"{run.student.code}.py"
    kept.unlink()
    with pytest.raises(
        KitError, match="its code is not here, or not the one that its run was described with"
    ) as raised:
        run.begun()
    one_line(raised)


def test_a_network_that_comes_out_otherwise_elsewhere_is_refused(own):
    network = of("OWN:tiny", own)
    with pytest.raises(KitError, match="is built with other parameters here") as raised:
        network.model_copy(update={"shapes": "0" * 16}).build()
    one_line(raised)


def test_what_answers_otherwise_when_folded_is_not_folded(own):
    picky, tiny = of("OWN:Picky", own), of("OWN:tiny", own)
    assert (picky.folding, tiny.folding) == ("refused", None)
    network = picky.build(0).eval()
    assert folded(network) is network
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded(tiny.build(0).eval()).modules())
    resnet = folded(named("torchvision:resnet18").build(0).eval())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in resnet.modules())


# ---- cost ---------------------------------------------------------------------------------------------------------


def test_flops_are_those_of_real_tensors(own):
    for name in ("torchvision:resnet18", "OWN:tiny", "OWN:scripted"):
        network = of(name, own)
        built, x = network.build(0), torch.randn(2, 3, 16, 16)
        with FlopCounterMode(display=False) as forward:
            z = built(x)
        with FlopCounterMode(display=False) as backward:
            z.sum().backward()
        both = forward.get_total_flops() + backward.get_total_flops()
        assert flops_per_image(network, 16) == (forward.get_total_flops() // 2, both // 2)


def test_a_grouped_convolution_costs_three_forward_passes_at_most():
    forward, both = flops_per_image(named("torchvision:mobilenet_v3_small"), 16)
    assert 2 * forward < both <= 3 * forward


# ---- what is refused ----------------------------------------------------------------------------------------------

REFUSED = {
    "torchvision:resnet81": "nearest: resnet18",
    "torchvision:fasterrcnn_resnet50_fpn": "is not known; nearest: ",
    "timm:resnet10x": "nearest: resnet10t",
    "timm:hf-hub:timm/resnet18.a1_in1k": "is not known",
    "torchvision:densenet121": "Output size is too small",
    "torchvision:googlenet": "gives a GoogLeNetOutputs in training mode; allowed: one tensor of logits (N, C); with "
    'arguments {"aux_logits": false}',
    "no_such_module.at.all:net": "module 'no_such_module.at.all' is not found; allowed: one on PYTHONPATH",
    "/no/such/file.py:net": "file /no/such/file.py cannot be read (No such file or directory)",
    "OWN:tinny": "my_nets.py has no function 'tinny'; nearest: tiny",
    "OWN:FILE": "has no function 'FILE'",
    "OWN:Two": "gives a tuple in training mode; allowed: one tensor of logits (N, C)",
    "OWN:Grey": "to have 3 channels, but got 1 channels instead (my_nets.py, line ",
    "OWN:Mixed": "in evaluation mode the logits of an image change with the other images of its batch",
    "OWN:Unsteady": "or by chance; allowed: logits of each image alone",
    "OWN:Vector": "gives (2, 3) in training mode for images (2, 3, 16, 16); allowed: logits (2, 10)",
    "OWN:Nan": "gives logits that are not finite numbers in training mode",
    "OWN:doubled": "raised RuntimeError: Input type (float) and bias type (double) should be the same",
    "OWN:shared": "has the same parameters in each build; allowed: made in the function",
    "OWN:InPlace": "changes its images in training mode, which others see; allowed: x = x - 1, not x -= 1",
    "OWN:Growing": "has other parameters or buffers after a pass; allowed: all made at first",
    "OWN:Lazy": "'net.1.weight' of its state has no shape before the first images",
    "OWN:frozen": "has no parameter that can be trained",
    "OWN:complex_valued": "has complex parameters; allowed: real ones",
    "OWN:quantised": "of its state is no tensor",
    "OWN:numpys": "begins with other weights each time it is built from the same seed",
    "OWN:no_module": "gives a int; allowed: an nn.Module",
    "OWN:raises": "raised RuntimeError: no such luck (my_nets.py, line ",
    "OWN:leaves": "raised SystemExit: 3 (my_nets.py, line ",
    "OWN:reads": "raised FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/at/all' (my_nets.py, line ",
    "OWN:no_classes": "such as one around it (classes): def own(num_classes): return no_classes(…=num_classes)",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_refused_in_one_line(name, own, capsys):
    with pytest.raises(KitError) as raised:
        of(name, own)
    message = one_line(raised)
    assert message.startswith(f"network '{name.replace('OWN', str(own))}'")
    assert REFUSED[name] in message
    assert capsys.readouterr().out == ""  # what it prints is not the command's output
    assert torch.get_default_dtype() is torch.float32


def test_a_network_of_two_outputs_may_have_one_by_its_arguments():
    googlenet = named("torchvision:googlenet", aux_logits=False, init_weights=False)
    assert googlenet.title == "torchvision:googlenet(aux_logits=False, init_weights=False)"


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("OWN:tiny", {"width": 2}, "unexpected keyword argument 'width'; allowed: num_classes, depth, drop, norm"),
        ("OWN:tiny", {"num_classes": 2}, "argument 'num_classes' is the kit's own"),
        ("timm:test_resnet", {"pretrained": True}, "argument 'pretrained' is the kit's own"),
        ("torchvision:resnet18", {"weights": "DEFAULT"}, "argument 'weights' is the kit's own"),
        ("torchvision:resnet18", {"depht": 3}, "raised TypeError: "),
        ("OWN:tiny", {"depth": "two"}, "raised TypeError: 'str' object cannot be interpreted as an integer"),
    ],
)
def test_arguments_that_a_network_does_not_take(name, arguments, said, own):
    with pytest.raises(KitError) as raised:
        of(name, own, **arguments)
    assert said in one_line(raised)


def test_arguments_that_no_run_can_keep(own):
    for arguments, said in ({"norm": nn.ReLU}, "type type is not JSON"), ({"drop": math.nan}, "not JSON compliant"):
        with pytest.raises(KitError, match=f"^a network's arguments are not allowed .*{said}"):
            of("OWN:tiny", own, **arguments)
        with pytest.raises(ValidationError, match=said):
            Settings(student="OWN:tiny", student_args=arguments)


def test_files_that_do_not_import(tmp_path):
    refused = {
        "import no_such_thing": "ModuleNotFoundError: No module named 'no_such_thing'",
        "def net(:": "SyntaxError",
        "raise SystemExit": "SystemExit",
        "1 / 0": "ZeroDivisionError",
    }
    for text, said in refused.items():
        with pytest.raises(KitError) as raised:
            named(f"{own_file(tmp_path, text)}:net")
        assert said in one_line(raised)
    (tmp_path / "binary.py").write_bytes(b"\x00\xff")
    with pytest.raises(KitError) as raised:
        named(f"{tmp_path}/binary.py:net")
    one_line(raised)


def test_what_lies_beside_a_file_can_be_imported_and_a_file_is_executed_once(tmp_path, capsys):
    (tmp_path / "blocks_beside.py").write_text("from torch import nn\n\nOF = nn.Conv2d(3, 2, 3)\n")
    text = "print('executed')\nfrom torch import nn\nfrom blocks_beside import OF\n\n\n"
    for name in ("a", "b"):
        text += f"def {name}(num_classes):\n    return nn.Sequential(nn.Conv2d(3, OF.out_channels, 3), "
        text += "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, num_classes))\n"
    for name in ("a", "b"):
        assert named(f"{own_file(tmp_path, text)}:{name}").build(0)[0].out_channels == 2
    assert capsys.readouterr().err == "executed\n"
    assert not (tmp_path / "__pycache__" / "my_nets.cpython-311.pyc").exists()


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("on_path", [False, True])
def test_files_of_two_folders_have_helpers_of_the_same_name(tmp_path, monkeypatch, first, on_path):
    files = {}
    for folder, width in (("a", 2), ("b", 3)):
        (tmp_path / folder / "parts").mkdir(parents=True)
        (tmp_path / folder / "sizes_beside.py").write_text(f"WIDTH = {width}\n")
        (tmp_path / folder / "parts" / "last.py").write_text(f"WIDTH = 10 * {width}\n")
        (tmp_path / folder / f"only_{folder}_has.py").write_text("")
        text = f"from torch import nn\nimport sizes_beside, only_{folder}_has\n\n\ndef net(num_classes):\n"
        text += "    from parts import last\n    return nn.Sequential(nn.Conv2d(3, sizes_beside.WIDTH, 3), "
        text += "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(sizes_beside.WIDTH, last.WIDTH), nn.ReLU(), "
        text += "nn.Linear(last.WIDTH, num_classes))\n"
        files[folder] = own_file(tmp_path / folder, text)
    if on_path:
        monkeypatch.syspath_prepend(tmp_path / "a")
    path = list(sys.path)
    specs = {folder: named(f"{files[folder]}:net") for folder in sorted(files, reverse=first == "b")}
    for folder, width in (("a", 2), ("b", 3), ("a", 2)):
        network = specs[folder].build(0)
        assert (network[0].out_channels, network[-1].in_features) == (width, 10 * width)
    assert {"only_a_has", "only_b_has"} <= set(sys.modules)
    assert sys.path[: len(path)] == path


def test_a_module_that_is_edited_while_the_process_goes_on_is_imported_anew(tmp_path, monkeypatch):
    """As a notebook's: the code that a run is described with is the code that its student is made of."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    text = "from torch import nn\n\n\ndef net(num_classes):\n    return nn.Sequential(nn.Conv2d(3, WIDTH, 3), "
    text += "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, num_classes))\n"
    specs = []
    for width in (2, 3, 3):
        (tmp_path / "edited_nets.py").write_text(f"WIDTH = {width}\n{text}")
        specs.append(named("edited_nets:net"))
        assert specs[-1].build(0)[0].out_channels == width
    assert specs[0].code != specs[1].code and specs[1] == specs[2]
    with pytest.raises(KitError, match="its code is not here, or not the one that its run was described with"):
        specs[0].build()


def test_without_timm_a_line_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['timm'] = None\n"
        "from kit.networks.named import NamedSpec\n"
        "try:\n    NamedSpec.of('timm:resnet18', 10, 16)\nexcept ValueError as error:\n    print(error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert told.stdout.endswith("needs timm, which is not installed; allowed: after pip install timm\n")


def test_folders_of_runs_hold_no_code(own):
    """Code travels by its hash alone: what somebody imports into a cache brings none along."""
    run = trained(of("OWN:tiny", own))
    train(run)
    assert not [path for path in folder_of(run.hash).iterdir() if path.suffix == ".py"]
