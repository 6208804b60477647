"""The cockpit: a student learns while K, α and the temperature's rate are moved, alone or beside another.

    cockpit(role="cifar-100", student="vgg16", teacher="resnet50", small_teacher="vgg19")

The training runs on a `kit.live.Session`'s thread and knows nothing of this. Here, on the kernel's own thread, what has
changed of the session's last state is sent to the page, which draws it, at most every INTERVAL. A moved slider is shown
at once. Where the networks look is drawn here, on a thread of its own, and so seldom that it takes no more than
ATTENDING of the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import math
import shlex
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import ipywidgets as widgets
import pandas as pd
import torch
from torch import Tensor, nn

from kit.cam.heat_maps import maps
from kit.data.augment import normalise
from kit.data.base import Split
from kit.data.roles import EVERY, ROLES, check_sources
from kit.errors import KitError, one_of
from kit.live.drawn import Bars, Curves, Lines, distributions
from kit.live.page import Page
from kit.live.plots import curves, draw, message, table
from kit.live.session import Session, State
from kit.models import MODELS, TITLES
from kit.networks.named import check_name
from kit.paper.presets import preset_named
from kit.paper.settings import AT_ONCE, Settings
from kit.recipe import Stage
from kit.runs.spec import Run
from kit.runtime.environment import folder_from
from kit.show import style
from kit.show.artefacts import pixels_png, save
from kit.show.cam_figures import enlarged, overlay
from kit.show.labels import Labels
from kit.show.panels import Softened
from kit.show.widgets import WIDTH, Coalesced
from kit.siblings.rows import NAMED
from kit.temperature import Policy
from kit.training import steering
from kit.training.thermostat import mean

INTERVAL = 0.16  # seconds between two messages to the page
ATTENDING = 0.01  # at most this share of a core's time goes into where the networks look
NETWORKS = ("teacher", "small_teacher", "third_teacher", "student")
NONE = "none"  # a choice like others: a drop-down has nothing to show for None
EYE = 136  # px at least: the image beside where the networks look
ATTENTION = 1.0  # seconds between two Grad-CAMs
K_MAX = 40
FACTORS = [10 ** (i / 10) for i in range(-20, 21)]  # of the default rate
BOXES = [(left, bottom, 0.425, 0.2) for bottom in (0.71, 0.45) for left in (0.055, 0.56)]  # of a snapshot's curves

TEMPERATURES: dict[str, tuple[str | Policy, str]] = {  # with the reading of Eq. (1)
    "adaptive": ("adaptive", "printed"),
    "schedule": ("schedule", "printed"),
    **{f"T = {T}, Eq. (1) {reading}": (T, reading) for T in ("5", "20") for reading in ("printed", "hinton")},
    **{sibling: (sibling, "printed") for sibling in NAMED},
    "several at once, one t": ("together", "printed"),
    "several at once, one t each": ("graduation", "printed"),
}
PHASES = {
    "loading": "loading images", "teachers": "training teachers", "running": "training", "failed": "stopped",
}  # fmt: skip
Policies = Mapping[str, Policy]  # of one's own, by name
NARROW = {"style": {"description_width": "92px"}, "layout": widgets.Layout(width="244px", max_width="100%")}
WIDE = {"style": {"description_width": "92px"}, "layout": widgets.Layout(width="334px", max_width="100%")}
BUTTON = widgets.Layout(width="96px")
GAP = widgets.Layout(grid_gap="4px 12px", flex_flow="row wrap")

_current: weakref.ref[Cockpit] | None = None


def cockpit(
    preset: str = "quick",
    role: str = "cifar-10",
    student: str = "vgg16",
    teacher: str | None = "resnet34",
    small_teacher: str | None = "vgg19",
    third_teacher: str | None = None,
    seed: int = 0,
    epochs: int | None = None,
    sources: Mapping[str, str] | None = None,
    data: str | None = None,
    compact: bool = False,
    folder: str | Path = "snapshots",
    temperatures: Policies | None = None,
    **further: object,
) -> Cockpit:
    """Controls and live pictures of a training. `compact` has the sliders and curves alone; snapshots go to `folder`.
    The third teacher is for temperatures of several at once, and is left out and hidden at others.
    Networks are the kit's or any other by its name, such as `timm:resnet18`. `data` is a folder with real images; with
    role "own" it is an image folder of one's own. `sources` says what fills which role, as a plan's do. `temperatures`
    are policies of one's own to choose from, by name: K, α, the rate and further sliders move what they call
    `steerable`. `further` fields of `Settings` (teacher_weights, student_args …) go with the networks given here, and
    are left out where another one is chosen.

    A kernel has one cockpit: calling again as before, as from a page that was reloaded, gives the one that trains;
    calling for something else ends the former one's training. KitError.
    """
    global _current
    asked = {**locals()}
    one_of("role", role, roles_of(data))
    for model in (student, *filter(None, (teacher, small_teacher, third_teacher))):
        check_name(model)
    check_sources(sources or {})
    former = _current() if _current else None
    if former is not None and former.asked == asked and former.comm is not None:
        return former
    if former is not None:
        former.close()
    preset_named(preset)
    for name, policy in (temperatures or {}).items():
        if not isinstance(policy, Policy):
            raise KitError(f"temperature {name!r} {policy!r} is not allowed; allowed: a Policy")
    settings = Settings(
        role=role, student=student, teacher=teacher, small_teacher=small_teacher, third_teacher=third_teacher,
        seed=seed, epochs=epochs, preset=preset, source=(sources or {}).get(role, "auto"), data=data, **further,
    )  # fmt: skip
    opened = Cockpit(settings, sources or {}, temperatures or {}, compact, Path(folder))
    opened.asked = asked
    _current = weakref.ref(opened)
    return opened


def roles_of(data: str | None) -> list[str]:
    """What may be trained on: the paper's roles and, of a folder, itself."""
    return [*(EVERY if data else ROLES)]


class Lane:
    """One session with its own temperature and sliders, its distributions, and where its networks look."""

    def __init__(
        self, name: str, settings: Settings, own: Policies, hear: Callable[[], None], moved: Callable[[], None]
    ) -> None:
        self.name, self._moved = name, moved
        self._temperatures = TEMPERATURES | {option: (policy, "printed") for option, policy in own.items()}
        self.temperature = widgets.Dropdown(options=list(self._temperatures), description="temperature", **WIDE)
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
        self._base, described = base, self._heated(base)
        epochs = base.epochs or base.plan().size(base.role).epochs
        stages: Sequence[Stage] = ()
        with contextlib.suppress(KitError):  # the session will say why not
            stages = described.stages(epochs)
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

    def follow(self, other: Lane, base: Settings) -> None:
        """Takes over what another lane's controls have."""
        self.temperature.value = other.temperature.value
        self.describe(base)
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
        heated, moved = self._heated(self._base), self.moved
        if isinstance(policy := heated.temperature, Policy):
            fields = {name: moved.pop(name) for name in policy.steerable if name in moved}
            moved["temperature"] = type(policy).model_validate(dict(policy) | fields)
        return heated.model_copy(update=moved)

    def _heated(self, base: Settings) -> Settings:
        """The settings at this lane's temperature; without a third teacher where not all teach at once."""
        temperature, reading = self._temperatures[self.temperature.value]
        third = base.third_teacher if self.is_at_once else None
        return base.model_copy(update={"temperature": temperature, "reading": reading, "third_teacher": third})

    @property
    def is_at_once(self) -> bool:
        return self._temperatures[self.temperature.value][0] in AT_ONCE

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

    def _steer(self, name: str) -> None:
        over = self.session.state.phase in ("finished", "failed")
        self.is_late = self._going and over
        if self._going and not over:
            with contextlib.suppress(KitError):  # of settings that its thread is about to refuse
                self.session.steer(name, self.value(name))
        self._moved()

    def set_off(self, go: Callable[[], None]) -> None:
        """`go`es, from the start and as the controls have it where nothing has begun or all is over."""
        state = self.session.state
        if state.phase in ("finished", "failed") or (not state.step and self.settings != self.session.described):
            self.reset(self._base)
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
                pictures, why, self._attention_cost = attending.result()
                captions = [" · ".join(filter(None, words)) for words in zip(captions, why, strict=True)]
                for image, caption, picture, text in zip(self.eyes, self.captions, pictures, captions, strict=True):
                    image.value, image.layout.visibility = picture, "visible"
                    caption.value = f'<div style="line-height:1.3;overflow-wrap:anywhere">{html.escape(text)}</div>'
                self._attending, self._attended_at = None, now
            return
        pause = max(ATTENTION, self._attention_cost / ATTENDING)
        if state.look is None or state.weights is None or now - self._attended_at < pause:
            return
        run, look, networks = state.run, state.look, state.networks
        key = (run, look.image, look.teacher)
        if self._shown.get("attention") == key and self._shown["weights"] is state.weights:
            return
        self._shown |= {"attention": key, "weights": state.weights}
        pixels, label = state.pictures.images.pixels[look.image], int(state.pictures.labels[look.image])
        data, teacher = run.data.load(), networks.get(look.teacher)
        name = run.teachers[look.teacher].student.title if teacher is not None else "no teacher"
        captions = f"test image {look.image}: {data.classes[label]}", name, f"student {run.student.title}"
        work = pixels, label, data.mean_std, teacher, networks["student"], state.weights
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


def attention(
    pixels: Tensor,
    label: int,
    mean_std: tuple[Tensor, Tensor],
    teacher: nn.Module | None,
    student: nn.Module,
    weights: dict[str, Tensor],
) -> tuple[list[bytes], list[str], float]:
    """The image (H, W, 3) alone and with the heat of teacher and student on it, as PNGs; of each why it has none, such
    as of a scripted network, else ''; and the seconds it took."""
    torch.set_num_threads(1)
    begin = time.thread_time()
    x = normalise(pixels[None], *mean_std)
    student.load_state_dict(weights)
    image = pixels.numpy()
    seen, why = [image, image, image], ["", "", ""]
    for i, network in enumerate((teacher, student), start=1):
        try:
            seen[i] = image if network is None else overlay(image, maps(network, x, label).maps[0])
        except KitError as error:
            why[i] = f"no heat map: {error}"
    side = -(-EYE // max(image.shape[:2])) * max(image.shape[:2])  # a whole factor
    return [pixels_png(enlarged(each, side=side)) for each in seen], why, time.thread_time() - begin


class Cockpit(widgets.VBox):
    """See `cockpit`. `lanes` are its sessions with their controls; `curves` are what the page draws of both; `draws`
    counts how often they were sent."""

    def __init__(
        self, settings: Settings, sources: Mapping[str, str], own: Policies, compact: bool, folder: Path
    ) -> None:
        self._settings, self._sources, self._own = settings, sources, own
        self._compact, self._folder = compact, folder
        self.draws = 0
        self._shown: object = None  # of which states the curves are
        self._named: Split | None = None  # the images that there are to pick from
        self._loop = None  # in a script nothing is redrawn by itself
        with contextlib.suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._moved_at = -math.inf  # when a control was moved last
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="attention")
        self._note = ""
        self._redraw = Coalesced(self._draw_now)
        self.lanes = [self._lane("A", settings)]
        self._build_controls(settings)
        self.curves = Curves(panels=2 if compact else 4)
        self.lines = Lines()
        self.page = Page(self._page_told)
        self.labels = Labels()
        super().__init__(self._parts(), layout=widgets.Layout(width=f"{WIDTH}px", max_width="100%"))
        self._drawer = self._loop.create_task(self._draw_on()) if self._loop else None
        if self._drawer is not None:
            self._drawer.add_done_callback(self._drawer_ended)
        self.draw()

    # ---- what it is made of ------------------------------------------------------------------------------------

    def _lane(self, name: str, settings: Settings) -> Lane:
        lane = Lane(name, settings, self._own, self._heard, self._redraw)
        lane.temperature.observe(lambda _: self._described(), "value")
        return lane

    def _build_controls(self, settings: Settings) -> None:
        def choice(what: str, options: Sequence[object], value: object) -> widgets.Dropdown:
            return widgets.Dropdown(options=options, value=value, description=what, **NARROW)

        given = filter(None, (getattr(settings, whose) for whose in NETWORKS))
        models = [(TITLES.get(model, model), model) for model in dict.fromkeys((*MODELS, *given))]
        self.role = choice("role", roles_of(settings.data), settings.role)
        self.teacher = choice("teacher", [*models, (NONE, NONE)], settings.teacher or NONE)
        self.small_teacher = choice("small teacher", [*models, (NONE, NONE)], settings.small_teacher or NONE)
        self.third_teacher = choice("third teacher", [*models, (NONE, NONE)], settings.third_teacher or NONE)
        self.third_teacher.layout = widgets.Layout(width="244px", max_width="100%", display="none")
        self.student = choice("student", models, settings.student)
        self.seed = widgets.BoundedIntText(value=settings.seed, min=0, max=9999, description="seed", **NARROW)
        self.image = choice("image", [("…", 0)], 0)
        for control in (self.role, *(getattr(self, whose) for whose in NETWORKS), self.seed):
            control.observe(lambda _: self._described(), "value")
        self.image.observe(lambda change: self._look_at(change["new"]), "value")

        def button(text: str, press: Callable[[], None], style: str = "") -> widgets.Button:
            made = widgets.Button(description=text, button_style=style, layout=BUTTON)
            made.on_click(lambda _: press())
            return made

        self.start_button = button("Start", self.start, "primary")
        self.pause_button = button("Pause", self.pause)
        self.step_button = button("Step", self.step)
        self.reset_button = button("Reset", self.reset)
        self.snapshot_button = button("Snapshot", self._snap)
        self.compare = widgets.ToggleButton(description="Compare", tooltip="a second session beside it", layout=BUTTON)
        self.compare.observe(lambda change: self._beside(change["new"]), "value")
        self.progress = widgets.FloatProgress(min=0, max=1, description="stage", **WIDE)
        self.status = widgets.HTML(layout=widgets.Layout(width="auto"))
        buttons = [self.start_button, self.pause_button, self.step_button, self.reset_button, self.snapshot_button]
        self._buttons = widgets.HBox([*buttons, *([] if self._compact else [self.compare]), self.progress], layout=GAP)
        self._choices = widgets.HBox([self.role, self.teacher, self.small_teacher, self.student], layout=GAP)

    def _parts(self) -> list[widgets.Widget]:
        several, sliders = len(self.lanes) > 1, [] if self._compact else [self._choices]
        for lane in self.lanes:
            choices = [] if self._compact and not self._own else [lane.temperature]
            if lane is self.lanes[0]:
                choices += [self.image] if self._compact else [self.third_teacher, self.seed, self.image]
            sliders += [widgets.HTML(f"<b>session {lane.name}</b>")] if several else []
            sliders += [widgets.HBox(choices, layout=GAP), lane.controls]
        rows = []
        for lane in self.lanes:
            rows += [lane.bars] if self._compact else [lane.row(several)]
        return [*sliders, self._buttons, self.status, self.lines, self.curves, *rows, self.labels, self.page]

    # ---- what is pressed ---------------------------------------------------------------------------------------

    def start(self) -> None:
        self._say()
        for lane in self.lanes:
            lane.set_off(lane.session.start)

    def pause(self) -> None:
        self._say()
        for lane in self.lanes:
            lane.session.pause()

    def step(self) -> None:
        self._say()
        for lane in self.lanes:
            lane.set_off(lane.session.step)

    def reset(self) -> None:
        """Back to the start, as the controls have it."""
        self._say()
        for lane in self.lanes:
            lane.reset(self._chosen())

    def _say(self, note: str = "", lines: Sequence[tuple[str, str]] = ()) -> None:
        """Says something below how the sessions stand, in place of what was said before."""
        self._note, self.lines.lines = note, list(lines)
        self._tell()
        self._redraw()

    def _chosen(self) -> Settings:
        names = ("role", *NETWORKS, "seed")
        source = self._sources.get(self.role.value, "auto")
        chosen = {name: None if (value := getattr(self, name).value) == NONE else value for name in names}
        others = [whose for whose in NETWORKS if chosen[whose] != getattr(self._settings, whose)]
        fields = Settings.model_fields.items()
        theirs = {name: field.default for name, field in fields for whose in others if name.startswith(f"{whose}_")}
        return self._settings.model_copy(update={"source": source} | theirs | chosen)

    def _described(self) -> None:
        """A choice that makes another run: at once where nothing has begun, else at the next Reset."""
        chosen = self._chosen()
        if chosen.small_teacher and not chosen.teacher:
            self.small_teacher.value = NONE  # comes back here
            return
        if any(lane.begun for lane in self.lanes):
            self._say("changed: Reset makes it take effect")
            return
        for lane in self.lanes:
            lane.reset(chosen)
        self._say()

    def _look_at(self, image: int) -> None:
        for lane in self.lanes:
            lane.session.look_at(image)

    def _beside(self, on: bool) -> None:
        note = ""
        if on and len(self.lanes) == 1:
            first, second = self.lanes[0], self._lane("B", self._chosen())
            second.follow(first, self._chosen())
            self.lanes.append(second)
            first.session.keep_step(second.session)
            second.session.keep_step(first.session)
            note = "Start lets B catch up with A; Reset, then Start, sets both off together" if first.begun else ""
        elif not on and len(self.lanes) == 2:
            self.lanes[0].session.keep_step(None)
            self.lanes.pop().session.close()
        self.children = self._parts()
        self._say(note)

    def _page_told(self, there: bool) -> None:
        for lane in self.lanes:
            lane.session.hold(not there)
        if there:  # what was sent while a page was being made may not have reached it
            shown = [self.status, self.progress, self.lines, self.curves, *self._buttons.children[:5]]
            for widget in [*shown, *(lane.bars for lane in self.lanes)]:
                widget.send_state()

    # ---- drawing -----------------------------------------------------------------------------------------------

    def _heard(self) -> None:
        """From a session's thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    async def _draw_on(self) -> None:
        """Shows what has changed, at most every INTERVAL, until the cockpit is closed."""
        while True:
            try:
                await asyncio.wait_for(self._wake.wait(), ATTENTION)
            except TimeoutError:
                if self.page.is_silent:
                    self._page_told(False)
            self._wake.clear()
            self.draw()
            await asyncio.sleep(INTERVAL)

    def _drawer_ended(self, drawer: asyncio.Task) -> None:
        if not drawer.cancelled() and drawer.exception() is not None:
            self._note = f"drawing has stopped: {drawer.exception()!r}"
            self._tell()

    def _draw_now(self) -> None:
        """After a control was moved: the distributions at once, the rest as soon as it may be."""
        self._moved_at = time.perf_counter()
        for lane in self.lanes:
            lane.draw_bars()
        self._wake.set()

    def draw(self) -> None:
        """Brings everything up to date; what has not changed is left alone."""
        self._draw_curves()
        self._draw_networks()

    def _draw_curves(self) -> None:
        states = [lane.session.state for lane in self.lanes]
        self._name_images()
        key = tuple((state.step, state.total, state.events, state.stages) for state in states)
        described = None if key == self._shown else message(curves(states))
        self._tell()  # only now: what is sent at once the page draws at once
        if described is not None:
            self.curves.shown, self._shown = described, key
            self.draws += 1

    def _draw_networks(self) -> None:
        for lane in self.lanes:
            lane.draw_bars()
            if not self._compact and time.perf_counter() - self._moved_at > ATTENTION:  # who moves a slider comes first
                lane.attend(self._pool)

    def _name_images(self) -> None:
        state = self.lanes[0].session.state
        if state.pictures is None or state.pictures is self._named:
            return
        self._named, chosen, classes = state.pictures, self.image.value, state.run.data.load().classes
        names = [(f"{i}: {classes[label]}", i) for i, label in enumerate(state.pictures.labels.tolist())]
        if list(self.image.options) != names:
            self.image.options = names
            self.image.value = min(chosen, len(names) - 1)

    def _tell(self) -> None:
        first, *others = states = [lane.session.state for lane in self.lanes]
        share = first.share if first.phase == "teachers" else first.progress
        self.progress.value = round(share, 2)  # a bar that has not visibly moved is not sent
        self.progress.description = "teachers" if first.phase == "teachers" else "stage"
        lines = [sentence(state, lane.name if others else "") for lane, state in zip(self.lanes, states, strict=True)]
        lines += ["the run is over: what was moved acts in the next one, from Start on"] * any(
            lane.is_late for lane in self.lanes
        )
        lines += [html.escape(self._note)] if self._note else []
        goes = [state.phase in ("running", "teachers") for state in states]
        self.start_button.disabled, self.pause_button.disabled = all(goes), not any(goes)
        self.reset_button.disabled = not any(goes) and not any(s.step or s.phase == "failed" for s in states)
        self.snapshot_button.disabled = not first.step
        self.third_teacher.layout.display = None if any(lane.is_at_once for lane in self.lanes) else "none"
        self.page.lost = any(state.step for state in states)
        self.status.value = f'<div role="status" style="line-height:1.4">{"<br>".join(lines)}</div>'

    # ---- leaving -----------------------------------------------------------------------------------------------

    def _snap(self) -> None:
        try:
            place, lines = self.snapshot()
        except (KitError, OSError) as error:
            self._say(str(error))
        else:
            whose = "the same student" if len(lines) == 1 else "{}'s student"
            said = [(f"trains {whose.format(name)} again:", line) for name, line in lines.items()]
            self._say(f"saved in {place}", said)

    def snapshot(self) -> tuple[Path, dict[str, str]]:
        """Writes what is shown: `cockpit.png`, `.svg`, `.csv`, `settings.json`, and where something was steered
        `events.json`; gives the folder, and of each session the line that trains its student again, wherever pasted.

        Raises KitError before anything has begun.
        """
        lanes = [(lane, lane.session.state) for lane in self.lanes]
        first, state = lanes[0]
        if not state.step:
            raise KitError("there is nothing to save yet: press Start first")
        base = f"{first.session.described.role}-{first.session.described.student}-step{state.step:05d}"
        taken = (self._folder / (base if i == 1 else f"{base}-{i}") for i in range(1, 10_000))
        place = next(path for path in taken if not path.exists()).absolute()
        frames = [pd.DataFrame(table(state.history)).assign(session=lane.name) for lane, state in lanes]
        save(self._figure(lanes), "cockpit", place, pd.concat(frames, ignore_index=True))
        described = {}
        for lane, state in lanes:
            events = None
            if state.events:
                events = place / ("events.json" if len(lanes) == 1 else f"events-{lane.name}.json")
                events.write_text(steering.text(state.events), encoding="utf-8")
            described[lane.name] = {
                "settings": lane.session.described.model_dump(mode="json"),
                "events": [event.model_dump() for event in state.events],
                "run": lane.session.replay.hash,
                "step": state.step,
                "command": again(lane.session.described, state.run, events),
            }
        (place / "settings.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
        return place, {name: each["command"] for name, each in described.items()}

    def _figure(self, lanes: Sequence[tuple[Lane, State]]) -> object:
        """Curves and distributions as one figure with its caption."""
        settings, state = lanes[0][0].session.described, lanes[0][1]
        run = state.run
        source = style.source_line({settings.role: f"{run.data.name} ({run.data.source})"}, settings.preset, 1,
                                   preset_named(settings.preset).says)  # fmt: skip
        with style.styled():
            figure = style.new_figure(WIDTH, 780)
            style.frame(figure, f"{run.title}, after {state.step} of {state.total} batches", source)
            draw(curves([state for _, state in lanes]), figure, BOXES)
            for i, (lane, state) in enumerate(lanes):
                panel = Softened(figure.add_axes((0.13 + 0.505 * i, 0.105, 0.345, 0.255)), run.data.load().classes)
                show_answers(panel, state, lane.t)
                panel.title.set_text(f"{lane.name}: {panel.title.get_text()}, test image {state.look.image}")
        return figure

    def close(self) -> None:
        """Ends the trainings; what was saved stays."""
        if self._drawer is not None:
            self._drawer.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for lane in reversed(self.lanes):
            lane.session.close()
        self.page.close()
        super().close()


def slider(policy: Policy, field: str) -> widgets.FloatSlider:
    """For a policy's field, between the field's limits; 0 and twice the value stand in for those it has not."""
    info, value = type(policy).model_fields[field], getattr(policy, field)
    limits = steering.Limits.of(info)
    low, high = limits.ends
    low = low if math.isfinite(low) else min(0.0, 2 * value)
    high = high if math.isfinite(high) else max(0.0, 2 * value)
    high = high if high > low else low + 1
    step = (high - low) / 100  # away from a limit that is not allowed itself
    first = low if limits.allow(low) else min(low + step, value)
    last = high if limits.allow(high) else max(high - step, value)
    return widgets.FloatSlider(value=value, min=first, max=last, step=step, description=field, readout_format=".4",
                               **WIDE)  # fmt: skip


def again(settings: Settings, run: Run, events: Path | None) -> str:
    """The line that trains the same student again, by the Python that trained it, from the same images: a command, or
    Python where no command can name its temperature."""
    given = {"data": str(run.data.folder or folder_from("KIT_DATA"))} if run.data.source == "real" else {}
    settings = settings.model_copy(update=given)
    if not isinstance(settings.temperature, Policy):
        words = shlex.split(settings.command(str(events) if events else None))
        return shlex.join([sys.executable, *words[1:]])
    fields = Settings.model_fields
    given = ", ".join(f"{name}={value!r}" for name, value in settings if value != fields[name].default)
    line = f"Settings({given}).run()"
    line = f"replayed({line}, steering.read(Path({str(events)!r})))" if events else line
    return f"no command can name a temperature of one's own; in Python: train({line})"


def show_answers(panel: Softened, state: State, t: float) -> None:
    """Bars of the picked image's logits at t; in a run without a teacher the student's alone."""
    look = state.look
    panel.update(look.zs if look.zt is None else look.zt, look.zs, t, int(state.pictures.labels[look.image]))
    for bar in panel.teacher:
        bar.set_visible(look.zt is not None)


def sentence(state: State, name: str = "") -> str:
    """How a session stands, as a line of HTML."""
    words = [f"<b>{name + ': ' if name else ''}{PHASES.get(state.phase, state.phase)}</b>"]
    if state.held:
        words.append("waiting for a page to watch")
    if state.message:
        words.append(html.escape(state.message))
    if state.phase == "teachers":
        words.append(f"{state.share:.0%}")
    if state.total:
        words.append(f"batch {state.step} of {state.total}")
        if state.stages:
            words.append(f"stage: {html.escape(state.stages[-1][0])}")
        if state.t is not None:
            apart = [f"{name} {t:.2f}" for name, t in state.at.items()] if isinstance(state.at, dict) else []
            floor = state.used == math.floor(state.t)
            apart += [] if state.used == state.t else [f"⌊t⌋ = {state.used:.0f}" if floor else f"used {state.used:.2f}"]
            words.append(f"t = {state.t:.2f}" + (f" ({html.escape(', '.join(apart))})" if apart else ""))
            weighs = {name: each[-1] for name, each in state.history.of("weight").items() if math.isfinite(each[-1])}
            said = ", ".join(f"{name} {weight:.2f}" for name, weight in weighs.items())
            words += [html.escape(f"weights {said}")] if weighs else []
        if state.images_a_second:
            words.append(f"{state.images_a_second:,.0f} images/s")
        if state.events:
            last = state.events[-1]
            words.append(f"steered {len(state.events)}×, last {last.name} = {last.value:.3g} after batch {last.step}")
    return " · ".join(words)
