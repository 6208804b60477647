"""Searches: rewards and gradients by enumeration, the controller on a bandit, the validity of every sampled network."""

import dataclasses
import itertools
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from small_runs import Here
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet34, resnet50

from kit.data.base import held_out
from kit.errors import KitError
from kit.files import cache_folder
from kit.methods import student_search
from kit.methods.base import SearchSize, in_full
from kit.methods.layer_removal import LayerRemoval, compression_reward, descriptions
from kit.methods.reinforce import Autoregressive, KeepOrRemove, Reinforce, UniformChoice, reinforce_loss
from kit.methods.search import Candidate, Search, recall, remember, search_all
from kit.methods.student_search import Space, StudentSearch
from kit.models import ModelSpec
from kit.networks.flops import flops_per_image, parameter_count
from kit.networks.layered import Layer, LayeredSpec, shrunk, without
from kit.paper import table4
from kit.paper.plan import Plan
from kit.runs.spec import HeldOutSpec
from kit.runs.store import Failure
from kit.runs.training import train

VGG = ModelSpec(name="vgg19", classes=7, width=4, stem="small")
RESNET = ModelSpec(name="resnet50", classes=7, width=4, stem="small")
NETWORKS = {"vgg19": LayeredSpec.of(VGG), "resnet50": LayeredSpec.of(RESNET)}


def tiny(*channels):
    return LayeredSpec(layers=tuple(Layer(channels=c) for c in channels), classes=3)


# ---- networks layer by layer --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vgg16", "vgg19", "resnet34", "resnet50"])
def test_a_described_network_costs_what_the_builders_does(name):
    model = ModelSpec(name=name, classes=7, width=4, stem="small")
    with FlopCounterMode(display=False) as counter:  # of numbers, not of shapes alone, and with its batch norms
        model.build()(torch.randn(2, 3, 16, 16)).sum().backward()
    assert flops_per_image(LayeredSpec.of(model), 16) == flops_per_image(model, 16)
    assert flops_per_image(model, 16)[1] == counter.get_total_flops() // 2


@pytest.mark.parametrize(("name", "build"), [("resnet34", resnet34), ("resnet50", resnet50)])
def test_a_described_resnet_has_torchvisions_parameters(name, build):
    ours = LayeredSpec.of(ModelSpec(name=name, classes=10, stem="small")).build()
    stem = 64 * 3 * (7 * 7 - 3 * 3)  # torchvision's first kernel is 7×7
    assert parameter_count(ours) == parameter_count(build(num_classes=10)) - stem


def test_a_described_resnet_computes_what_the_builders_does():
    described, built = NETWORKS["resnet50"].build(0), RESNET.build(1)
    ours = described.state_dict()
    theirs = built.state_dict()
    convs = [name.removesuffix(".weight") for name in theirs if name.endswith("weight") and theirs[name].ndim == 4]
    main = [name for name in convs if "downsample" not in name]
    skips = [name for name in convs if "downsample" in name]

    def copy(target, source_conv, source_norm):
        conv, norm = target
        ours[f"{conv}.weight"] = theirs[f"{source_conv}.weight"]
        for part in ("weight", "bias", "running_mean", "running_var"):
            ours[f"{norm}.{part}"] = theirs[f"{source_norm}.{part}"]

    for i, conv in enumerate(main):
        copy((f"convs.{i}", f"norms.{i}"), conv, conv.replace("conv", "bn"))
    projected = sorted({name.split(".")[1] for name in ours if name.startswith("skips.")}, key=int)
    for i, conv in zip(projected, skips, strict=True):
        copy((f"skips.{i}.0", f"skips.{i}.1"), conv, conv[:-1] + "1")
    ours["fc.weight"], ours["fc.bias"] = theirs["fc.weight"], theirs["fc.bias"]
    described.load_state_dict(ours)
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(described.eval()(x), built.eval()(x), atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_every_cut_and_shrunk_network_is_valid(data):
    whole = NETWORKS[data.draw(st.sampled_from(sorted(NETWORKS)))]
    keep = data.draw(st.lists(st.booleans(), min_size=len(whole.layers), max_size=len(whole.layers)))
    cut = without(whole, keep)
    assert (cut is None) == (not any(keep))
    if cut is None:
        return
    assert len(cut.layers) == sum(keep)
    factors = data.draw(st.lists(st.sampled_from([0.1, 0.5, 1.0]), min_size=sum(keep), max_size=sum(keep)))
    small = shrunk(cut, factors)
    px = data.draw(st.integers(8, 20))
    logits = small.build(0)(torch.randn(2, 3, px, px))
    assert logits.shape == (2, 7) and logits.isfinite().all()
    logits.sum().backward()
    assert flops_per_image(small, px)[0] > 0 and LayeredSpec.model_validate_json(small.model_dump_json()) == small


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_every_student_of_the_search_space_is_valid(data):
    space = Space.around(NETWORKS["vgg19"])
    choices = data.draw(st.tuples(*(st.integers(0, size - 1) for size in space.sizes)))
    spec, what = space.network(choices)
    assert spec.build(0)(torch.randn(2, 3, 9, 9)).shape == (2, 7)
    assert what.startswith(space.families[choices[0]])
    assert flops_per_image(spec, 9)[0] >= space.cheapest(9)


@pytest.mark.parametrize(
    ("name", "channels"),
    [("vgg16", (4, 8, 16, 32, 32)), ("vgg19", (4, 8, 16, 32, 32)), ("resnet34", (4, 8, 16, 32)),
     ("resnet50", (16, 32, 64, 128))],
)  # fmt: skip
def test_a_stage_ends_where_the_network_pools_or_strides(name, channels):
    student = LayeredSpec.of(ModelSpec(name=name, classes=7, width=4, stem="small"))
    assert Space.around(student).channels == channels


def test_a_copys_widths_are_its_own():
    spec = NETWORKS["vgg19"]
    assert spec.widths.startswith("4 4p 8")
    assert spec.model_copy(update={"layers": spec.layers[2:]}).widths.startswith("8 8p 16")


def test_removing_layers_keeps_residuals_and_down_sampling():
    layers = (
        Layer(channels=4),
        Layer(channels=4, kernel=1),
        Layer(channels=4, stride=2),
        Layer(channels=8, kernel=1, back=3),
        Layer(channels=8, pool=True),
        Layer(channels=8),
    )
    spec = LayeredSpec(layers=layers, classes=3)
    cut = without(spec, [True, True, False, True, False, True])
    assert [(layer.stride, layer.back, layer.pool) for layer in cut.layers] == [
        (1, 0, False),
        (1, 0, False),
        (2, 2, False),  # takes over the stride; the residual spans the two layers that are left of its three
        (2, 0, False),  # takes over the pool
    ]
    gone = without(spec, [True, False, False, False, True, True])
    assert [layer.back for layer in gone.layers] == [0, 0, 0]
    ends_early = without(spec, [True, True, True, False, True, True])
    assert [layer.back for layer in ends_early.layers] == [0, 0, 2, 0, 0]
    assert without(spec, [False] * 6) is None
    with pytest.raises(KitError, match="keep has 2 entries, the network 6 layers"):
        without(spec, [True, False])


def test_a_description_that_makes_no_sense_is_refused():
    with pytest.raises(ValidationError, match="kernel 4 is even"):
        Layer(channels=4, kernel=4)
    with pytest.raises(ValidationError, match="which is not there"):
        LayeredSpec(layers=(Layer(channels=4, back=2),), classes=3)
    with pytest.raises(KitError, match="has no layer list"):
        LayeredSpec.of(ModelSpec(name="cnn", classes=3, stem="small"))


# ---- rewards and gradients ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "accuracy", "expected"),
    [(100, 0.9, 0.0), (50, 0.8, 0.75), (10, 0.4, 0.99 / 2), (25, 0.8, 0.9375), (200, 0.8, -3.0)],
)
def test_the_n2n_reward_by_hand(params, accuracy, expected):
    """C = 1 − params/100; R = C(2−C)·accuracy/0.8."""
    assert compression_reward(params, 100, accuracy, 0.8) == pytest.approx(expected)


def reward_of(mask):
    return {0: -1.0, 1: 0.3, 2: 0.9, 3: 0.2}[sum(mask)] + 0.1 * mask[0]


def every_mask(n):
    return torch.tensor(list(itertools.product((0, 1), repeat=n)))


@pytest.mark.parametrize("baseline", [0.0, 0.37, -2.0])
def test_reinforce_on_keep_or_remove_is_the_gradient_of_the_expected_reward(baseline):
    """Enumerated over all 2³ masks, against finite differences of J = Σ π(mask)·R(mask), whatever the baseline."""
    policy = KeepOrRemove(descriptions(tiny(4, 8, 4)), seed=1).double()
    torch.nn.init.normal_(policy.head.weight, generator=torch.Generator().manual_seed(2))
    masks = every_mask(3)
    rewards = torch.tensor([reward_of(mask) for mask in masks.tolist()], dtype=torch.double)

    def J():
        return (policy.log_prob(masks).exp() * rewards).sum()

    assert float(policy.log_prob(masks).exp().sum().detach()) == pytest.approx(1)
    chance = policy.log_prob(masks).detach().exp()
    each = [
        reinforce_loss(policy.log_prob(mask[None]), r[None], baseline) for mask, r in zip(masks, rewards, strict=True)
    ]
    expected_loss = sum(p * loss for p, loss in zip(chance, each, strict=True))  # E over samples of the estimator
    parameters = [policy.head.weight, policy.head.bias, policy.lstm.weight_ih_l0]
    estimated = torch.autograd.grad(expected_loss, parameters)
    h = 1e-6
    for parameter, gradient in zip(parameters, estimated, strict=True):
        for position in (0, parameter.numel() - 1):
            flat = parameter.data.view(-1)
            flat[position] += h
            up = J().item()
            flat[position] -= 2 * h
            down = J().item()
            flat[position] += h
            assert -gradient.view(-1)[position].item() == pytest.approx((up - down) / (2 * h), rel=1e-4, abs=1e-9)


def test_the_autoregressive_policy_is_a_distribution_and_samples_from_it():
    policy = Autoregressive((2, 3, 2), seed=0)
    for head in policy.heads:
        torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(1))
    every = torch.tensor(list(itertools.product(range(2), range(3), range(2))))
    chance = policy.log_prob(every).exp()
    assert float(chance.sum().detach()) == pytest.approx(1, abs=1e-5)
    drawn = policy.sample(4000, torch.Generator().manual_seed(0))
    counted = torch.stack([(drawn == row).all(1).float().mean() for row in every])
    assert torch.allclose(counted, chance, atol=0.03)
    assert torch.allclose(Autoregressive((2, 3, 2), seed=5).log_prob(every).exp(), torch.full((12,), 1 / 12))


@pytest.mark.parametrize("seed", range(3))
def test_the_controller_beats_random_on_a_bandit(seed):
    """Reward: the share of five choices that are right. Random finds 1/3 of them; the controller learns them."""
    sizes, secret = (3, 3, 3, 3, 3), (2, 0, 1, 1, 2)

    def play(learner):
        means = []
        for _ in range(60):
            choices = learner.propose(4)
            rewards = [sum(a == b for a, b in zip(row, secret, strict=True)) / 5 for row in choices]
            learner.learn(choices, rewards)
            means.append(sum(rewards) / 4)
        return sum(means[-15:]) / 15

    learnt, random = play(Reinforce(Autoregressive(sizes, seed), seed)), play(UniformChoice(sizes, seed))
    assert random == pytest.approx(1 / 3, abs=0.12)
    assert learnt > random + 0.25


def test_a_learner_repeats_itself_by_seed():
    def sequence(seed):
        learner = Reinforce(Autoregressive((4,) * 6, seed), seed)
        seen = []
        for _ in range(5):
            choices = learner.propose(3)
            seen += choices
            learner.learn(choices, [sum(row) for row in choices])
        return seen

    state = torch.get_rng_state()
    assert sequence(1) == sequence(1) != sequence(2)
    assert torch.equal(state, torch.get_rng_state())


# ---- [11] ---------------------------------------------------------------------------------------------------------


def test_the_reward_is_accuracy_times_relative_cost_to_the_power_of_w():
    fallback = NETWORKS["vgg19"]
    proposer = StudentSearch(Space.around(fallback), 16, 0, fallback)
    own = float(flops_per_image(VGG, 16)[0])
    assert proposer.target == own
    assert proposer.reward(Candidate((), "", fallback, own, 1), 0.6) == pytest.approx(0.6)
    assert proposer.reward(Candidate((), "", fallback, 2 * own, 1), 0.6) == pytest.approx(0.6 * 2**-0.07)
    assert proposer.reward(Candidate((), "", fallback, own / 2, 1), 0.6) > 0.6


def test_an_impossible_cost_target_is_refused():
    space = Space.around(NETWORKS["vgg19"])
    least = space.cheapest(16)
    for target in (0.0, -5.0, least - 1.0, float("nan")):
        with pytest.raises(
            KitError, match=f"cannot be met: the cheapest student of the space takes {least:,}"
        ) as caught:
            StudentSearch(space, 16, 0, NETWORKS["vgg19"], target=target)
        assert "\n" not in str(caught.value)
    StudentSearch(space, 16, 0, NETWORKS["vgg19"], target=float(least))


@pytest.mark.parametrize("empty", ["families", "depths", "widths", "kernels"])
def test_an_empty_search_space_is_refused(empty):
    with pytest.raises(ValidationError, match=empty):
        Space.around(NETWORKS["vgg19"], **{empty: ()})


# ---- searches as a whole ------------------------------------------------------------------------------------------


def test_candidates_never_see_the_test_images(setting):
    whole = setting.data.load()
    run = setting.candidate((table4.recipe.hard_labels()), LayeredSpec.of(setting.student), 0)
    assert isinstance(run.data, HeldOutSpec)
    part = run.data.load()
    assert len(part.train) + len(part.test) == len(whole.train) and len(part.train) == run.data.train_images
    pixels = whole.train.images.take(torch.arange(len(whole.train)))
    held = part.test.images.take(torch.arange(len(part.test)))
    kept = part.train.images.take(torch.arange(len(part.train)))
    at = torch.cat([part.train.images.positions, part.test.images.positions]).sort().values
    assert torch.equal(at, torch.arange(len(whole.train)))
    assert torch.equal(pixels[part.test.images.positions], held) and len(kept) == len(part.train)
    assert held_out(whole, 0.9).train.labels.unique().tolist() == list(range(100))  # every class keeps an image


def test_a_search_is_repeated_from_its_seed_and_read_from_the_cache(setting):
    proposer = student_search.search(setting, seed=11)
    for _ in range(setting.search.rounds):
        proposer.tell({run: train(run) for run in proposer.ask()})
    found = remember(proposer)
    again = student_search.search(setting, seed=11)
    for _ in range(setting.search.rounds):
        again.tell({run: train(run) for run in again.ask()})
    assert again.found().log.equals(found.log) and again.found().chosen == found.chosen
    assert again.hash == proposer.hash != student_search.search(setting, seed=12).hash
    assert again.hash != student_search.search(setting, seed=11, random=True).hash
    (read,) = search_all([student_search.search(setting, seed=11)], jobs=1, show_progress=False)
    assert read.log["run"].tolist() == found.log["run"].tolist() and read.chosen == found.chosen
    assert read.spent.seconds == pytest.approx(found.spent.seconds) and read.spent.steps == found.spent.steps
    best = found.log.loc[found.log["reward"].idxmax()]
    assert best["cost"] == flops_per_image(found.chosen, setting.data.px)[0]
    assert found.log["best"].is_monotonic_increasing

    place = cache_folder() / "searches" / f"{proposer.hash}.json"
    content = json.loads(place.read_text())
    place.write_text(json.dumps(content | {"policy_seconds": 0}))
    with pytest.raises(KitError, match="does not match its checksum; remove the file to search anew"):
        recall(student_search.search(setting, seed=11))
    for text in ("{", "[]"):
        place.write_text(text)
        with pytest.raises(KitError, match="remove the file"):
            recall(student_search.search(setting, seed=11))
    place.unlink()


def test_a_network_tried_twice_is_paid_once(setting):
    class Stubborn:
        name, fallback = "stubborn", LayeredSpec.of(setting.student)
        identity = {"name": "stubborn"}  # noqa: RUF012

        def propose(self, n, round, rounds):
            return [Candidate((0,), "the same", self.fallback, 1.0, 1) for _ in range(n)]

        def reward(self, candidate, accuracy):
            return accuracy

        def learn(self, candidates, rewards):
            pass

    search = Search(setting, Stubborn(), seed=0)
    while not search.is_over:
        search.tell({run: train(run) for run in search.ask()})
    log = search.found().log
    assert (log["steps"] > 0).tolist() == [True, False, False, False]
    assert log["note"].tolist()[1:] == ["tried before"] * 3 and log["reward"].nunique() == 1


def test_a_policy_that_removes_all_layers_is_recorded_and_falls_back(setting):
    whole = LayeredSpec.of(setting.student)
    proposer = LayerRemoval(whole, setting.data.px, seed=0, accuracy_teacher=0.5)
    with torch.no_grad():
        proposer._remover.policy.head.bias.fill_(-50.0)  # keeps nothing
    only_removal = dataclasses.replace(setting, search=SearchSize(rounds=1, candidates=3, epochs=1))
    search = Search(only_removal, proposer, seed=0)
    assert search.ask() == []
    search.tell({})
    found = search.found()
    assert found.log["reward"].tolist() == [-1.0] * 3
    assert found.log["note"].str.contains("all layers removed").all()
    assert found.chosen.layers == whole.layers and found.spent.steps == 0
    (note,) = in_full(only_removal, 0, found).notes
    assert note == "none of 3 candidates was a network that trains: VGG-19 is taken as it is"
    assert proposer.propose(2, 0, 1)  # having learnt from that, it goes on


def test_a_candidate_that_diverges_is_recorded(setting):
    search = student_search.search(setting, seed=21)
    asked = search.ask()
    failed = {run: Failure(run, "the loss is not a finite number at step 3", 3) for run in asked}
    search.tell(failed)
    assert search.lines[0]["reward"] == -1.0 and "not a finite number" in search.lines[0]["note"]
    search._asked = [*search._asked, *search._asked]
    search.tell(failed)
    assert search.found().spent.steps == 3 * len({run.hash for run in asked})  # each network once


def test_layers_are_shrunk_from_the_best_cut_network(setting):
    whole = LayeredSpec.of(setting.student)
    proposer = LayerRemoval(whole, setting.data.px, seed=4, accuracy_teacher=0.5)
    first = proposer.propose(4, 0, 2)
    rewards = [0.1, 0.7, 0.2, 0.3]
    proposer.learn(first, rewards)
    second = proposer.propose(4, 1, 2)
    assert {candidate.phase for candidate in first} == {"remove"}
    assert {candidate.phase for candidate in second} == {"shrink"}
    assert all(len(candidate.spec.layers) == len(first[1].spec.layers) for candidate in second)
    assert all(candidate.params <= first[1].params for candidate in second)


def test_table_4_at_smoke_has_every_row_and_equal_steps(monkeypatch):
    """In this process, so that no worker has to start, and under smaller teachers than the paper's."""
    plan = Plan.of("smoke")
    given, cnn = table4.setting(plan), plan.teacher("cnn", table4.ROLE)
    roomy = dataclasses.replace(given, epochs=3, big=given.small, small=cnn, assistants=(cnn.student,))
    monkeypatch.setattr(table4, "setting", lambda plan, *options: roomy)
    frame = table4.run(plan, seeds=1, jobs=Here(), equal_time=True, show_progress=False)
    assert len(frame) == 2 * len(table4.METHODS) and (frame["status"] == "finished").all()
    per_epoch = len(roomy.data.load().train) // roomy.batch
    steps = frame[frame["budget"] == "steps"].set_index("label")["steps"]
    assert (steps <= 3 * per_epoch).all() and (steps > 2 * per_epoch).all()
    assert (frame["seconds_student"] <= frame["seconds_total"] + 1e-9).all()
    assert (frame["flops_student"] <= frame["flops"]).all()
    searching = frame[frame["method"].isin(["[9]", "[11]", "[12]"]) & (frame["title"] != "teacher assistant, given")]
    assert (searching["flops_student"] < searching["flops"]).all()
    assert {"reading", "steps", "seconds_total", "seconds_student", "flops", "test_top1", "test_top5"} <= set(frame)
    assert len(table4.summary(frame)) == 2 * len(table4.METHODS)
    verdicts = table4.verdicts(frame, plan)
    assert set(verdicts["verdict"]) == {"no verdict: fewer than two seeds"}
    assert any("fastest" in claim for claim in verdicts["claim"])
    assert frame.drop_duplicates("run")["student"].nunique() > 1
