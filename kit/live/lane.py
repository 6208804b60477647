"""A session in the cockpit with its own temperature and sliders, its distributions, and where its networks look.

Where the networks look is drawn on a thread of its own, and so seldom that it takes no more than ATTENDING of the time.
"""

from __future__ import annotations

import contextlib
import html
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import ipywidgets as widgets
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from kit.cam.heat_maps import maps
from kit.data.augment import normalise
from kit.errors import KitError
from kit.live.drawn import Bars
from kit.live.session import Session
from kit.paper.settings import AT_ONCE, Settings, without
from kit.recipe import Stage
from kit.show.artefacts import pixels_png
from kit.show.cam_figures import enlarged, overlay
from kit.show.panels import distributions
from kit.show.widgets import K_MAX
from kit.siblings.rows import NAMED
from kit.temperature import Policy
from kit.training import steering
from kit.training.thermostat import mean

ATTENDING = 0.005  # at most this share of a core's time goes into where the networks look
EYE = 136  # px at least: the image beside where the networks look
ATTENTION = 1.0  # seconds between two Grad-CAMs
FACTORS = [10 ** (i / 10) for i in range(-20, 21)]  # of the default rate

Policies = Mapping[str, Policy]  # of one's own, by name
NETWORKS = ("teacher", "small_teacher", "third_teacher", "student")
# the margin is every widget's own but a SelectionSlider's
WIDE = {"style": {"description_width": "92px"}, "layout": widgets.Layout(width="334px", max_width="100%", margin="2px")}
GAP = widgets.Layout(grid_gap="4px 12px", flex_flow="row wrap")


class Lane:
    """One session with its own temperature and sliders, its distributions, and where its networks look."""

    def __init__(
        self, name: str, settings: Settings, own: Policies, hear: Callable[[], None], moved: Callable[[], None]
    ) -> None:
        self.name, self._moved = name, moved
        given = option_of(settings)
        own = {**own, given: settings.temperature} if isinstance(settings.temperature, Policy) else own
        self._temperatures = temperatures(settings.recipe) | {name: heated(policy) for name, policy in own.items()}
        self._temperatures.setdefault(given, heated(settings.temperature, settings.reading))
        self.temperature = widgets.Dropdown(options=list(self._temperatures), value=given, description="temperature",
                                            **WIDE)  # fmt: skip
        self.k = widgets.FloatSlider(value=settings.k, min=1, max=K_MAX, step=1, description="K, threshold",
                                     readout_format=".4", **WIDE)  # fmt: skip
        self.alpha = widgets.FloatSlider(value=1, min=0, max=1, step=0.05, description="α, soft share", **WIDE)
        # a page rounds what a FloatLogSlider has to its own grid: of a selection it only knows the place
        self.rate = widgets.SelectionSlider(options=FACTORS, value=1, description="rate of log t", **WIDE)
        self._usual = {"k": self.k, "alpha": self.alpha, "rate": self.rate}
        self._further = {
            option: {field: slider(policy, field) for field in policy.steerable if field not in self._usual}
            for option, policy in own.items()
        }
        self.controls = widgets.HBox(layout=GAP)
        self.bars = Bars()
        hidden = {"width": "150px", "height": "150px", "visibility": "hidden"}  # until there is a picture
        self.eyes = [widgets.Image(format="png", layout=widgets.Layout(**hidden)) for _ in range(3)]
        self.captions = [widgets.HTML(layout=widgets.Layout(width="150px")) for _ in self.eyes]
        self._going = False  # Start or Step has been pressed: what is moved from then on is steered
        self.is_late = False  # something was moved after the end
        self._shown: dict[str, object] = {}
        self._defaults: dict[str, float] = {}  # of what the sliders move
        self._attending: tuple[Future, Sequence[str]] | None = None
        self._attended_at = self._attention_cost = 0.0
        self.describe(settings)
        self.session = Session(self.settings, hear=hear)
        for sliders in (self._usual, *self._further.values()):
            for field, moving in sliders.items():
                moving.observe(lambda _, field=field: self._steer(field), "value")

    # ---- settings ----------------------------------------------------------------------------------------------

    def describe(self, base: Settings) -> None:
        """Takes role and networks from `base`; which sliders there are and act, and from where, follows from them."""
        self.base, described = base, self._heated(base)
        stages: Sequence[Stage] = ()
        with contextlib.suppress(KitError, ValidationError):  # the session will say why not
            stages = described.stages(base.epochs or base.plan().size(base.role).epochs)
        parts = [part for stage in stages for part in steering.parts(stage)]
        self._begins = next((stage for stage in stages if stage.temperature is not None), None)
        self.sliders = self._usual | self._further.get(self.temperature.value, {})
        self.controls.children = tuple(self.sliders.values())
        for name, slider in self.sliders.items():
            values = [getattr(part, name) for part in parts if name in part.steerable]
            slider.disabled = not values
            if values and values[0] != self._defaults.get(name):
                self._defaults[name] = values[0]
                self._set(name, values[0])

    def follow(self, other: Lane) -> None:
        """Takes over what another lane trains, and what its controls have."""
        self.temperature.value = other.temperature.value
        self.describe(other.base)
        self.rate.index = other.rate.index
        for name in (self.sliders.keys() & other.sliders.keys()) - {"rate"}:
            self.sliders[name].value = other.sliders[name].value

    def _set(self, name: str, value: float) -> None:
        if name == "rate":
            at = self.rate.index
            self.rate.options = [(f"{value * factor:.3g}", value * factor) for factor in FACTORS]
            self.rate.index = at
        else:
            self.sliders[name].max = max(self.sliders[name].max, value)
            self.sliders[name].value = value

    @property
    def settings(self) -> Settings:
        """As the controls have it. A slider that stands where it stood is no option given."""
        heated, moved = self._heated(self.base), self.moved
        if isinstance(policy := heated.temperature, Policy):
            fields = {name: moved.pop(name) for name in policy.steerable if name in moved}
            moved["temperature"] = type(policy).model_validate(dict(policy) | fields)
        return heated.model_copy(update=moved)

    def _heated(self, base: Settings) -> Settings:
        """The settings at this lane's temperature, without what has no use at it."""
        changes = self._temperatures[self.temperature.value] | ({} if self.is_at_once else without("third_teacher"))
        return base.model_copy(update=changes).pruned()

    @property
    def is_at_once(self) -> bool:
        return self._temperatures[self.temperature.value]["temperature"] in AT_ONCE

    @property
    def moved(self) -> dict[str, float]:
        """What the sliders have that act and stand elsewhere than they stood, by name."""
        acting = (name for name, slider in self.sliders.items() if not slider.disabled)
        return {name: value for name in acting if (value := self.value(name)) != self._defaults[name]}

    def value(self, name: str) -> float:
        """Of a slider, without what is left of the page's own arithmetic."""
        value = self.sliders[name].value
        if math.isclose(value, self._defaults.get(name, value)):
            return self._defaults.get(name, value)
        return value if name == "rate" else round(value, 12)

    @property
    def begun(self) -> bool:
        return self.session.state.step > 0

    @property
    def is_over(self) -> bool:
        return self.session.state.phase in ("finished", "failed")

    @property
    def is_done(self) -> bool:
        """It has finished, and its sliders stand as they stood."""
        return self.session.state.phase == "finished" and not self.is_late

    def _steer(self, name: str) -> None:
        self.is_late = self._going and self.is_over
        if self._going and not self.is_over:
            with contextlib.suppress(KitError):  # of settings that its thread is about to refuse
                self.session.steer(name, self.value(name))
        self._moved()

    def set_off(self, go: Callable[[], None]) -> None:
        """`go`es, from the start and as the controls have it where nothing has begun or all is over."""
        state = self.session.state
        if self.is_over or (not state.step and self.settings != self.session.described):
            self.reset(self.base)
        self._going = True
        go()

    def reset(self, base: Settings) -> None:
        """Back to the start, as the controls have it."""
        self._going = self.is_late = False
        self.describe(base)
        self.session.reset(self.settings)

    # ---- pictures ----------------------------------------------------------------------------------------------

    @property
    def t(self) -> float:
        """The temperature to show: the training's, as the sliders have it; before it begins, where it starts."""
        state = self.session.state
        policy = state.policy if state.step else self._begins and self._begins.temperature
        if policy is None or (state.step and state.is_by_image):
            return state.used or 1.0
        policy = policy.model_copy(update={name: at for name, at in self.moved.items() if name in policy.steerable})
        at = policy.steered(state.at) if state.step else policy.begin(self._begins.teachers)
        return at.get(state.look and state.look.teacher, mean(at)) if isinstance(at, dict) else at

    def draw_bars(self) -> None:
        """The softened distributions, if they are not what is shown."""
        state = self.session.state
        if state.look is None:
            return
        run, look, t = state.run, state.look, self.t
        key = (run, look.image, t, look.teacher, tuple(look.zs.tolist()))
        if self._shown.get("bars") != key:
            true = int(state.pictures.labels[look.image])
            self.bars.shown = distributions(look.zt, look.zs, t, run.data.load().classes, true)
            self._shown["bars"] = key

    def attend(self, pool: ThreadPoolExecutor) -> None:
        """Grad-CAM on another thread, on copies of the networks; its pictures are put up at a later call."""
        now, state = time.perf_counter(), self.session.state
        if self._attending is not None:
            attending, captions = self._attending
            if attending.done():
                drawn, self._attention_cost = attending.result()
                for place, (picture, why) in drawn.items():
                    self.eyes[place].value, self.eyes[place].layout.visibility = picture, "visible"
                    text = html.escape(" · ".join(filter(None, (captions[place], why))))
                    self.captions[place].value = f'<div style="line-height:1.3;overflow-wrap:anywhere">{text}</div>'
                self._attending, self._attended_at = None, now
            return
        pause = max(ATTENTION, self._attention_cost / ATTENDING)
        if state.look is None or state.weights is None or now - self._attended_at < pause:
            return
        run, look, networks = state.run, state.look, state.networks
        key = (run, look.image, look.teacher)
        known = self._shown.get("attention") == key
        if known and self._shown["weights"] is state.weights:
            return
        self._shown |= {"attention": key, "weights": state.weights}
        pixels, label = state.pictures.images.pixels[look.image], int(state.pictures.labels[look.image])
        data, teacher = run.data.load(), networks.get(look.teacher)
        name = run.teachers[look.teacher].student.title if teacher is not None else "no teacher"
        captions = f"test image {look.image}: {data.classes[label]}", name, f"student {run.student.title}"
        others = {} if known else {0: None, 1: teacher}  # a teacher stays as it is
        work = pixels, label, data.mean_std, others, networks["student"], state.weights
        self._attending = pool.submit(attention, *work), captions

    def row(self, named: bool) -> widgets.Widget:
        """Distributions and attention side by side, or below each other where it is narrow."""
        eyes = [widgets.VBox(pair) for pair in zip(self.eyes, self.captions, strict=True)]
        whose = f"{self.name}: w" if named else "W"
        heading = widgets.HTML(f"<b>{whose}here the networks look</b> (Grad-CAM for the true class)")
        looks = widgets.VBox(
            [heading, widgets.HBox(eyes, layout=widgets.Layout(grid_gap="12px", flex_flow="row wrap"))]
        )
        answers = widgets.Box([self.bars], layout=widgets.Layout(flex="1 1 378px", max_width="560px"))
        return widgets.HBox([answers, looks], layout=widgets.Layout(grid_gap="16px", flex_flow="row wrap"))


def heated(temperature: object, reading: str = "printed") -> dict[str, Any]:
    """What a choice of the temperature changes of settings."""
    return {"temperature": temperature, "reading": reading}


def temperatures(recipe: str) -> dict[str, dict[str, Any]]:
    """The temperatures to choose from, by name, each with what it changes: a fixed T has the big teacher alone."""
    readings = ("printed", "hinton") if recipe == "kit" else ("printed",)
    fixed = {fixed_name(T, recipe, reading): (T, reading) for T in ("5", "20") for reading in readings}
    several = {"several at once, one t": "together", "several at once, one t each": "graduation"}
    return (
        {name: heated(name) for name in ("adaptive", "schedule")}
        | {name: heated(*chosen) | without("small_teacher") for name, chosen in fixed.items()}
        | {name: heated(name) for name in NAMED}
        | {name: heated(temperature) for name, temperature in several.items()}
    )


def fixed_name(T: object, recipe: str, reading: str) -> str:
    """A fixed T with its loss: Eq. (1) in one of its readings, or that of another recipe, which has no readings."""
    return f"T = {T}, Eq. (1) {reading}" if recipe == "kit" else f"T = {T}, loss of {recipe}"


def option_of(settings: Settings) -> str:
    """What the drop-down calls the temperature of these settings; one of its own by its name."""
    T = settings.temperature
    if isinstance(T, Policy):
        return f"{T.kind}, given"
    if T is None:
        return "adaptive" if settings.recipe == "kit" else f"of recipe {settings.recipe}"
    if str(T)[:1].isdigit():
        first = f"T = {T}, small teacher first"
        return first if settings.small_teacher else fixed_name(T, settings.recipe, settings.reading)
    known = (name for name, changes in temperatures(settings.recipe).items() if changes["temperature"] == T)
    return next(known, str(T))


def slider(policy: Policy, field: str) -> widgets.FloatSlider:
    """For a policy's field, between the field's limits; 0 and twice the value stand in for those it has not."""
    info, value = type(policy).model_fields[field], getattr(policy, field)
    found = ((kind, getattr(bound, kind, None)) for bound in info.metadata for kind in ("ge", "gt", "le", "lt"))
    limits = {kind: limit for kind, limit in found if limit is not None and math.isfinite(limit)}
    low = limits.get("ge", limits.get("gt", min(0.0, 2 * value)))
    high = limits.get("le", limits.get("lt", max(0.0, 2 * value)))
    high = high if high > low else low + 1
    step = 1.0 if info.annotation is int else (high - low) / 100  # away from a limit that is not allowed itself
    first = min(low + step, value) if "gt" in limits else low
    last = max(high - step, value) if "lt" in limits else high
    return widgets.FloatSlider(value=value, min=first, max=last, step=step, description=field, readout_format=".4",
                               **WIDE)  # fmt: skip


def attention(
    pixels: Tensor,
    label: int,
    mean_std: tuple[Tensor, Tensor],
    others: Mapping[int, nn.Module | None],
    student: nn.Module,
    weights: dict[str, Tensor],
) -> tuple[dict[int, tuple[bytes, str]], float]:
    """By place, of others and the student, the image (H, W, 3) with a network's heat on it, alone where there is none,
    as a PNG, and why it has no heat, such as of a scripted network, else ''; and the seconds it took."""
    torch.set_num_threads(1)
    begin = time.thread_time()
    x, image = normalise(pixels[None], *mean_std), pixels.numpy()
    side = -(-EYE // max(image.shape[:2])) * max(image.shape[:2])  # a whole factor
    student.load_state_dict(weights)
    drawn = {}
    for place, network in {**others, 2: student}.items():
        seen, why = image, ""
        try:
            seen = image if network is None else overlay(image, maps(network, x, label).maps[0])
        except KitError as error:
            why = f"no heat map: {error}"
        drawn[place] = pixels_png(enlarged(seen, side=side)), why
    return drawn, time.thread_time() - begin
