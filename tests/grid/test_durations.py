"""How long a run takes: exact where rates are known by construction, and sane on runs that were really trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from foreign_networks import named, own_file

from kit import recipe
from kit.files import cache_folder
from kit.grid.durations import FORWARD, NOMINAL, Pace, images_of, kinds_of
from kit.methods.complexity import stages as complexity_gap
from kit.models import ModelSpec
from kit.networks.flops import flops_per_image
from kit.networks.layered import Layer, LayeredSpec
from kit.networks.named import NamedSpec
from kit.recipe import Recipe
from kit.runs.spec import DataSpec, Run, changed, with_teachers
from kit.runs.training import train

DATA = {"role": "cifar-10", "name": "digits", "source": "embedded", "fingerprint": "0", "classes": 10}


def data(px: int = 16, train_images: int = 100) -> DataSpec:
    return DataSpec(**DATA, px=px, train_images=train_images, train_per_class=None, test_per_class=None)


def network(name: str, width: int = 4) -> ModelSpec:
    return ModelSpec(name=name, classes=10, width=width, stem="small")


def run(student, stages=None, px: int = 16, seed: int = 0, epochs: int = 3, **teachers) -> Run:
    taught_by = {name: run(spec, px=px) for name, spec in teachers.items()}
    stages = recipe.hard_labels() if stages is None else stages
    return Run(
        data=data(px),
        student=student,
        recipe=Recipe(stages=stages, epochs=epochs, batch=32),
        teachers=taught_by,
        seed=seed,
    )


def put(cache: Path, of: Run, seconds: float, student_flops: float, teacher_flops: float = 0.0) -> Path:
    """A finished run as `kit.runs.store` leaves it, without its weights and history."""
    folder = cache / "runs" / of.hash
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(of.model_dump(mode="json") | {"title": of.title}))
    metrics = {
        "cpu_s": seconds,
        "gpu_s": 0.0,
        "student_flops": student_flops,
        "teacher_flops": teacher_flops,
        "stages": [{"steps": 9} for _ in of.recipe.stages],
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


HUGE = 400 * "9"  # more FLOPs than a float can hold
SEEN = 3 * 96  # images of a run above: three epochs of three whole batches of 32, four images left out of each


def flops(network, images: int = SEEN) -> tuple[float, float]:
    """Of so many images of 16 px: in training, and in a teacher's passes, which take FORWARD of the seconds."""
    asking, training = flops_per_image(network, 16)
    return images * training, images * asking


def test_a_run_goes_at_its_students_rate_and_its_teachers_passes_take_less_of_it():
    """VGG-16 trains at 2 GFLOP/s, CNN at 1, however many classes they were measured with."""
    vgg16, vgg19, cnn = (network(name) for name in ("vgg16", "vgg19", "cnn"))
    train, teach = flops(vgg16)[0], FORWARD * flops(vgg19)[1]
    of_another = vgg16.model_copy(update={"classes": 100})
    known = Pace().with_rates({(of_another, 16): 2e9, (cnn, 16): 1e9})
    assert known.seconds(run(vgg16)) == pytest.approx(train / 2e9)
    taught = run(vgg16, recipe.eq1(5), big=vgg19)
    assert known.seconds(taught) == pytest.approx((train + teach) / 2e9)
    assert known.seconds(taught, {"big": 0.75}) == pytest.approx((train + teach / 4) / 2e9)  # the rest is read
    assert known.answering(taught, vgg19, SEEN) == pytest.approx(teach / 1.5e9)  # the median of all that is known
    hinton = recipe.small_teacher(recipe.Fixed(T=20), soft_ends=(0.25, 0.5))
    three_steps = run(cnn, hinton, small=vgg19, big=vgg19, epochs=6)
    assert known.seconds(three_steps) == pytest.approx(2 * flops(cnn)[0] / 1e9 + teach / 1e9)  # teachers half the time
    doubled = run(vgg16, complexity_gap(20), big=vgg19)  # an objective that does both twice
    assert known.seconds(doubled) == pytest.approx(2 * (train + teach) / 2e9)


def test_a_networks_rate_is_the_median_of_its_runs(tmp_path):
    """All FLOPs of a run, its teachers' too, over its seconds; of a make that was never seen."""
    vgg16, vgg19 = network("vgg16"), network("vgg19")
    put(tmp_path, run(vgg16), 1.0, 2e9)
    put(tmp_path, run(vgg16, seed=1), 1.0, 9e9)
    put(tmp_path, run(vgg16, recipe.eq1(5), big=vgg19), 2.0, 2e9, 4e9 / FORWARD)
    put(tmp_path, run(network("resnet34"), px=32), 1.0, 5e9)
    known = Pace.from_cache(tmp_path)
    unseen = run(vgg16, recipe.big_teacher_only(recipe.Fixed(T=5), soft_end=0.5), big=vgg19)
    assert known.seconds(unseen) == pytest.approx((flops(vgg16)[0] + FORWARD * flops(vgg19)[1] / 2) / 3e9)


@pytest.mark.parametrize("change", [{"precision": "bfloat16"}, {"batch": 4}])
def test_another_precision_and_another_batch_have_another_rate(tmp_path, change):
    """Seconds of a float32 run predict no bfloat16 run, nor those of a large batch a small one's, and vice versa."""
    usual = run(network("vgg16"))
    of_recipe = {name: value for name, value in change.items() if name == "batch"}
    of_run = {name: value for name, value in change.items() if name != "batch"}
    other = changed(usual, recipe=usual.recipe.model_copy(update=of_recipe), **of_run)
    put(tmp_path, usual, 1.0, flops(usual.student, images_of(usual))[0])
    put(tmp_path, other, 50.0, flops(other.student, images_of(other))[0])
    known = Pace.from_cache(tmp_path)
    assert (known.seconds(usual), known.seconds(other)) == (pytest.approx(1.0), pytest.approx(50.0))


def test_a_network_has_a_rate_at_each_precision(tmp_path):
    vgg16, cnn = network("vgg16"), network("cnn")
    put(tmp_path, run(vgg16), 1.0, 8e9)
    put(tmp_path, changed(run(vgg16), precision="bfloat16"), 1.0, 2e9)
    known = Pace.from_cache(tmp_path)
    for each in (vgg16, cnn):
        assert known.rate(each, 16) == 8e9 and known.rate(each, 16, precision="bfloat16") == 2e9
    only = Pace().with_rates({(vgg16, 16): 8e9})
    assert only.rate(vgg16, 16, precision="bfloat16") == 8e9  # of this machine, which is all that is known


def test_what_was_never_measured_goes_as_all_do(tmp_path):
    put(tmp_path, run(network("vgg16", 4)), 1.0, 2e9)
    put(tmp_path, run(network("vgg19", 32)), 1.0, 8e9)
    put(tmp_path, run(network("resnet34", 8)), 1.0, 4e9)
    known, narrow = Pace.from_cache(tmp_path), network("vgg16", 4)
    searched = LayeredSpec(layers=(Layer(channels=4),), classes=10)
    assert known.rate(narrow, 16) == 2e9 and known.knows(narrow, 16)
    for unseen, px in ((network("vgg16", 5), 16), (narrow, 64), (searched, 16)):
        assert known.rate(unseen, px) == 4e9 and not known.knows(unseen, px)
    assert known.rate(narrow, 16, device="cuda") == NOMINAL["cuda"]
    assert Pace().rate(narrow, 16) == NOMINAL["cpu"]
    measured = known.with_rates({(narrow, 16): 9e9, (narrow, 64): 9e9})
    assert (measured.rate(narrow, 16), measured.rate(narrow, 64)) == (2e9, 9e9)  # what runs took is believed


def test_a_network_of_ones_own_has_a_pace_of_its_own_wherever_its_code_lies(tmp_path, own_cache):
    own = named(f"{own_file(tmp_path)}:tiny", depth=2)
    put(own_cache, run(own), 2.0, 8e9)
    put(own_cache, run(network("vgg16")), 1.0, 9e9)
    known = Pace.from_cache(own_cache)
    (tmp_path / "moved").mkdir()
    moved = NamedSpec.of(f"{own_file(tmp_path / 'moved')}:tiny", 7, 16, {"depth": 2})
    assert moved.shapes != own.shapes and known.rate(moved, 16) == 4e9
    deeper = NamedSpec.of(moved.path + ":tiny", 10, 16, {"depth": 3})
    assert known.knows(moved, 16) and not known.knows(deeper, 16)


def test_evaluation_is_counted_apart(tmp_path):
    vgg16, vgg19 = network("vgg16"), network("vgg19")
    rates = {(vgg16, 16): 1e9, (vgg19, 16): 2e9}
    own, big = (FORWARD * flops(spec, 1)[1] for spec in (vgg16, vgg19))
    taught = run(vgg16, recipe.eq1(5), big=vgg19)
    expected = (3 * 50 + 100) * own / 1e9 + 50 * big / 2e9  # three epochs on 50 test images, and 100 training images
    assert Pace().with_rates(rates).evaluating(taught, 50) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("run.json", "{"),
        ("run.json", "[]"),
        ("run.json", '{"recipe": 1}'),
        ("metrics.json", ""),
        ("metrics.json", "[" * 100_000),
        ("metrics.json", '{"cpu_s": 1e999, "student_flops": 1, "teacher_flops": 0, "stages": [{"steps": 1}]}'),
        ("metrics.json", '{"cpu_s": 0, "student_flops": 1, "teacher_flops": 0, "stages": [{"steps": 1}]}'),
        ("metrics.json", f'{{"cpu_s": 1, "student_flops": {HUGE}, "teacher_flops": 0, "stages": [{{"steps": 1}}]}}'),
        ("metrics.json", '{"cpu_s": 1, "student_flops": 1, "stages": [{"steps": 1}]}'),
    ],
)  # fmt: skip
def test_damaged_folders_are_passed_over(tmp_path, file, content):
    put(tmp_path, run(network("cnn")), 1.0, 2e9)
    damaged = put(tmp_path, run(network("cnn"), seed=1), 1.0, 9e9)
    (damaged / file).write_text(content)
    known = Pace.from_cache(tmp_path)
    assert known.rates == dict.fromkeys(kinds_of(network("cnn"), 16, batch=32), 2e9)


@pytest.mark.parametrize("change", [{"batch": None}, {"batch": "many"}, {"batch": 1e999}])
def test_descriptions_that_make_no_sense_are_passed_over(tmp_path, change):
    folder = put(tmp_path, run(network("cnn")), 1.0, 9e9)
    described = json.loads((folder / "run.json").read_text())
    described["recipe"] |= change
    (folder / "run.json").write_text(json.dumps(described))
    (tmp_path / "runs" / "0123.lock").touch()
    assert Pace.from_cache(tmp_path) == Pace()


def test_no_cache_is_no_pace(tmp_path):
    assert Pace.from_cache(tmp_path / "nowhere") == Pace()


def test_runs_really_trained_take_about_as_long_as_predicted():
    """One seed predicts the next to within a factor of 3 on a machine that does other things besides."""
    cnn, vgg16 = ModelSpec(name="cnn", classes=10, width=4, stem="small"), network("vgg16")
    sizes = {"px": 16, "train_per_class": 20, "test_per_class": 2}
    digits = DataSpec.of("cifar-10", **sizes, source="embedded")

    def real(student, stages, seed=0, epochs=6, **teachers):
        taught = {name: real(spec, recipe.hard_labels()) for name, spec in teachers.items()}
        return Run(
            data=digits,
            student=student,
            recipe=Recipe(stages=stages, epochs=epochs, batch=32),
            teachers=taught,
            seed=seed,
        )

    first = [real(vgg16, recipe.hard_labels()), real(vgg16, recipe.eq1(5), big=cnn)]
    for each in with_teachers(first):
        train(each)
    known = Pace.from_cache(cache_folder())
    second = [
        real(vgg16, recipe.eq1(5), seed=1, epochs=9, big=cnn),
        real(vgg16, recipe.eq1(20, "hinton"), seed=1, big=cnn),
        real(cnn, recipe.hard_labels(), seed=1, epochs=12),
        real(vgg16, recipe.big_teacher_only(recipe.adaptive(6)), big=cnn),
    ]
    for each in second:
        took = train(each).seconds
        assert took / 3 < known.seconds(each) < 3 * took, each.title
