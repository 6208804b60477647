"""The cockpit: a student learns while K, α and the temperature's rate are moved, alone or beside another.

    cockpit(role="cifar-100", student="vgg16", teacher="resnet50", small_teacher="vgg19")

The training runs on a `kit.live.Session`'s thread and knows nothing of this. Here, on the kernel's own thread, what has
changed of the session's last state is sent to the page, which draws it, at most every INTERVAL. A moved slider is shown
at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import math
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ipywidgets as widgets
from pydantic import ValidationError

from kit.data.base import Split
from kit.data.roles import EVERY, ROLES, check_sources
from kit.errors import KitError, one_line, one_of
from kit.live.drawn import Page, Standing
from kit.live.lane import ATTENTION, GAP, NETWORKS, WIDE, Lane, Policies
from kit.live.plots import curves, message
from kit.live.snapshot import written
from kit.live.state import State
from kit.models import MODELS, TITLES
from kit.networks.named import check_name
from kit.paper.settings import Settings, without
from kit.show.widgets import WIDTH, Coalesced, Labels
from kit.temperature import Policy

INTERVAL = 0.15  # seconds between two messages to the page
ANSWERING = 0.4  # seconds between two drawings of what the networks say while they learn
NONE = "none"  # a choice like others: a drop-down has nothing to show for None

PHASES = {
    "loading": "loading images", "teachers": "training teachers", "running": "training", "failed": "stopped",
}  # fmt: skip
GOING = ("running", "teachers")
WAITS = "changed: Reset makes it take effect"
NARROW = {"style": {"description_width": "92px"}, "layout": widgets.Layout(width="244px", max_width="100%")}
BUTTON = widgets.Layout(width="96px")

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
    """Shows controls and live pictures of a training. `compact` has the sliders and curves alone; snapshots go to
    `folder`. The third teacher is for temperatures of several at once, and is left out and hidden at others.
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
    sources, own, folder = check_sources(sources or {}), temperatures or {}, Path(folder)
    if "source" in further:
        raise KitError(f"source {further['source']!r} is not allowed; allowed: sources, what fills which role")
    for name, policy in own.items():
        if not isinstance(policy, Policy):
            raise KitError(f"temperature {name!r} {policy!r} is not allowed; allowed: a Policy")
    try:
        settings = Settings(
            role=role, student=student, teacher=teacher, small_teacher=small_teacher, third_teacher=third_teacher,
            seed=seed, epochs=epochs, preset=preset, source=sources.get(role, "auto"), data=data, **further,
        )  # fmt: skip
        one_of("role", settings.role, roles_of(data))
        for model in filter(None, (getattr(settings, whose) for whose in NETWORKS)):
            check_name(model)
        usual = settings.plan().size(settings.role).epochs
        if settings.temperature not in [*own]:
            settings.stages(max(1, settings.epochs or usual))
    except ValidationError as error:
        raise KitError(one_line(error)) from None
    former = _current() if _current else None
    if former is not None and former.asked == asked and former.comm is not None:
        return former
    if former is not None:
        former.close()
    opened = Cockpit(settings, sources, own, compact, folder)
    opened.asked = asked
    _current = weakref.ref(opened)
    return opened


def roles_of(data: str | None) -> list[str]:
    """What may be trained on: the paper's roles and, of a folder, itself."""
    return [*(EVERY if data else ROLES)]


class Cockpit(widgets.VBox):
    """See `cockpit`. `lanes` are its sessions with their controls; `standing` is what the page draws of both; `draws`
    counts how often its curves were sent."""

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
        self.standing = Standing(panels=2 if compact else 4)
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
        lane.temperature.observe(lambda _: self._heated(lane), "value")
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
        self.seed = widgets.IntText(value=settings.seed, description="seed", **NARROW)
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
        return [*sliders, self._buttons, self.standing, *rows, self.labels, self.page]

    # ---- what is pressed ---------------------------------------------------------------------------------------

    def start(self) -> None:
        self._say()
        for lane in self._to_go:
            lane.set_off(lane.session.start)

    def pause(self) -> None:
        self._say()
        for lane in self.lanes:
            lane.session.pause()

    def step(self) -> None:
        self._say()
        for lane in self._to_go:
            lane.set_off(lane.session.step)

    @property
    def _to_go(self) -> list[Lane]:
        """The lanes that Start and Step are for: who is done is begun again only where all are."""
        return [lane for lane in self.lanes if not lane.is_done] or self.lanes

    def reset(self) -> None:
        """Back to the start, as the controls have it."""
        self._say()
        for lane in self.lanes:
            lane.reset(self._chosen())

    def _say(self, note: str = "", lines: Sequence[tuple[str, str]] = ()) -> None:
        """Says something below how the sessions stand, in place of what was said before."""
        self._note, self.standing.lines = note, list(lines)
        self._tell()
        self._redraw()

    def _chosen(self) -> Settings:
        names = ("role", *NETWORKS, "seed")
        source = self._sources.get(self.role.value, "auto")
        chosen = {name: None if (value := getattr(self, name).value) == NONE else value for name in names}
        others = [whose for whose in NETWORKS if chosen[whose] != getattr(self._settings, whose)]
        return self._settings.model_copy(update={"source": source} | without(*others) | chosen)

    def _described(self) -> None:
        """A choice that makes another run: at once where nothing has begun, else at the next Reset."""
        chosen = self._chosen()
        if chosen.small_teacher and not chosen.teacher:
            self.small_teacher.value = NONE  # comes back here
            return
        if any(lane.begun for lane in self.lanes):
            self._say(WAITS)
            return
        for lane in self.lanes:
            lane.reset(chosen)
        self._say()

    def _heated(self, lane: Lane) -> None:
        """Another temperature is another run of this lane alone."""
        if not lane.begun:
            lane.reset(lane.base)
        self._say(WAITS if lane.begun else "")

    def _look_at(self, image: int) -> None:
        for lane in self.lanes:
            lane.session.look_at(image)

    def _beside(self, on: bool) -> None:
        note = ""
        if on and len(self.lanes) == 1:
            first = self.lanes[0]
            second = self._lane("B", first.base)
            second.follow(first)
            second.session.look_at(self.image.value)
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
            shown = [self.standing, self.progress, *self._buttons.children[:5]]
            for widget in [*shown, *(lane.bars for lane in self.lanes)]:
                widget.send_state()

    # ---- drawing -----------------------------------------------------------------------------------------------

    def _heard(self) -> None:
        """From a session's thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    async def _draw_on(self) -> None:
        """Shows what has changed, at most every INTERVAL, until the cockpit is closed."""
        answered = -math.inf
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), ATTENTION)
            if self.page.is_silent:
                self._page_told(False)
            self._wake.clear()
            self._draw_curves()
            now, phases = time.perf_counter(), [lane.session.state.phase for lane in self.lanes]
            if now - answered >= ANSWERING or "running" not in phases:
                self._draw_networks()
                answered = now
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
        with self.standing.hold_sync():  # one message
            self._tell()
            if described is not None:
                self.standing.shown, self._shown = described, key
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
        goes = [state.phase in GOING for state in states]
        self.start_button.disabled = all(lane.session.state.phase in GOING for lane in self._to_go)
        self.pause_button.disabled = not any(goes)
        self.reset_button.disabled = not any(goes) and not any(s.step or s.phase == "failed" for s in states)
        self.snapshot_button.disabled = not any(state.step for state in states)
        self.third_teacher.layout.display = None if any(lane.is_at_once for lane in self.lanes) else "none"
        self.page.lost = any(state.step for state in states)
        self.standing.words = "<br>".join(lines)

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
        """Writes what is shown, see `kit.live.snapshot.written`."""
        return written(self.lanes, self._folder)

    def close(self) -> None:
        """Ends the trainings; what was saved stays."""
        if self._drawer is not None:
            self._drawer.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for lane in reversed(self.lanes):
            lane.session.close()
        self.page.close()
        super().close()


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
        if state.t is not None and state.step:  # before the first batch it follows the sliders
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
