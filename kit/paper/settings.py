"""One training as a person describes it: the same settings for the command line, the cockpit, notebooks and Python.

    Settings(student="vgg16", teacher="resnet34", temperature="adaptive").run()

Importing this module is cheap: what it needs of torch it imports when a run is made of the settings.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from kit.data.roles import OWN
from kit.errors import KitError, one_of
from kit.paper.presets import by_crd

OF_TEACHING = (  # how teachers teach: without one, none of these changes anything, and with one, not all
    "temperature", "reading", "k", "alpha", "rate", "follows", "optimiser", "normalised", "floor", "t_squared",
    "logits",
)  # fmt: skip
OF_A_NETWORK = ("args", "weights", "normalise", "px", "classes", "head")  # what its options are called after its name
AT_ONCE = ("together", "graduation")  # temperatures of all teachers in one stage: one t, and one t each
OTHERS = (
    "cifar:NAME, torchvision:NAME, timm:NAME, FILE.py:FUNCTION or MODULE:FUNCTION"  # networks that are not the kit's
)

if TYPE_CHECKING:
    from kit.paper.plan import Chosen, Plan
    from kit.recipe import Stage
    from kit.runs.spec import Run
    from kit.temperature import Policy


def arguments_of(option: str, given: str | None) -> dict[str, Any]:
    """A network's further arguments, of what an option was given. Raises KitError where that is no JSON object."""
    try:
        arguments = json.loads(given or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise KitError(f'{option} {given!r} is not allowed; allowed: a JSON object, {{"depth": 16}}')
    return arguments


class Settings(BaseModel):
    """What a person chooses of a training. Field for field the options of `python -m kit train`.

    `temperature` is adaptive, schedule, a number for a fixed T, a sibling's name (with a loss of its own), together or
    graduation (all teachers at once, see `kit.several`), or a policy of one's own. What is None follows: epochs, batch
    and width by the preset, rate by the epochs, α by the loss, temperature by the recipe, which says how weights are
    updated and for how long, and the loss at a fixed T.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, str_min_length=1)
    asked_by: ClassVar[str] = "train"  # the command whose options the fields are
    usual_role: ClassVar[str | None] = "cifar-100"

    student: str = Field(description=f"cnn, vgg16, vgg19, resnet34, resnet50, {OTHERS}")
    role: str = Field(
        None, description="cifar-10, cifar-100, imagenet or hrsc2016; default: the folder of --data, else cifar-100"
    )
    teacher: str | None = Field(None, description="the big teacher; without it: hard labels")
    small_teacher: str | None = Field(None, description="learnt from first")
    third_teacher: str | None = Field(None, description="one more, where all teach at once: together, graduation")
    student_args: str | None = Field(None, description='of a function\'s network: further arguments, {"depth": 16}')
    teacher_args: str | None = Field(None, description="likewise, of the big teacher's")
    small_teacher_args: str | None = Field(None, description="likewise, of the small teacher's")
    student_weights: str | None = Field(None, description="file of weights that the student begins with")
    teacher_weights: str | None = Field(None, description="file of the big teacher's weights: it is not trained here")
    small_teacher_weights: str | None = Field(None, description="likewise, of the small teacher's")
    teacher_normalise: str = Field("role", description="how its images are normalised: role, imagenet or MEAN/STD")
    small_teacher_normalise: str = Field("role", description="likewise, the small teacher's")
    teacher_px: int | None = Field(None, description="the size it wants its images in; default: the role's")
    small_teacher_px: int | None = Field(None, description="likewise, the small teacher")
    teacher_classes: str | None = Field(
        None, description="file of the given teacher's classes, a name a line, where they are not the data's"
    )
    small_teacher_classes: str | None = Field(None, description="likewise, of the small teacher's")
    teacher_head: Literal["train"] | None = Field(
        None, description="train: the given teacher's last layer is not read, but trained by a linear probe"
    )
    small_teacher_head: Literal["train"] | None = Field(None, description="likewise, the small teacher's")
    recipe: str = Field("kit", description="how weights are updated: kit, or crd, as the field's CIFAR tables have it")
    temperature: Any = Field(
        None,
        description="adaptive, schedule, a fixed T such as 5, a sibling's: CTKD, or of all teachers at once: together, "
        "one t, or graduation, one each; default: adaptive, of crd 4",
    )
    reading: Literal["printed", "hinton"] = Field(
        "printed", description="of Eq. (1), the loss at a fixed T of one teacher: printed or hinton"
    )
    k: float = Field(20.0, description="K: where t starts, and its bound")
    alpha: float | None = Field(
        None,
        ge=0,
        le=1,
        description="weight of the soft loss; default 0.5 in Eq. (1), 0.9 in crd's loss, 1 in adaptive stages",
    )
    rate: float | None = Field(
        None, description="learning rate of log t per epoch; default 1200 / epochs, 60 / epochs with --no-normalised"
    )
    follows: str = Field("cross-entropy", description="whose gradient moves t: cross-entropy or kl")
    optimiser: str = Field("sgd", description="of log t: sgd or adam")
    normalised: bool = Field(True, description="the gradient is taken per variance of the teacher's logits")
    floor: bool = Field(True, description="the losses use ⌊t⌋")
    t_squared: bool = Field(True, description="t² on the soft loss of adaptive stages")
    logits: str = Field("float32", description="what teachers' logits are rounded to: float32 or float16")
    epochs: int | None = Field(None, description="default: the preset's for the role")
    batch: int | None = Field(None, description="default: the preset's for the role")
    lr: float | None = Field(None, description="peak learning rate; default: the preset's")
    width: int | None = Field(None, description="the student's first channel count; default: the preset's")
    seed: int = Field(0, description="of the student's weights, batches and augmentation")
    precision: str | None = Field(
        None, description="of training: float32 or bfloat16; default: bfloat16 on a GPU that has it"
    )
    device: Literal["cpu", "cuda"] | None = Field(
        None, description="what trains: cpu or cuda; default: cuda at preset paper where there is a GPU, else cpu"
    )
    preset: str = Field("quick", description="smoke, quick or paper")
    px: int | None = Field(None, description="size of every image; default: the preset's for the role")
    train_per_class: int | str | None = Field(
        None, union_mode="left_to_right", description="at most so many training images a class, or all; likewise"
    )
    test_per_class: int | str | None = Field(
        None, union_mode="left_to_right", description="at most so many test images a class, or all; likewise"
    )
    source: str = Field("auto", description="auto, embedded or real images")
    level: str | None = Field(None, description="of hrsc2016's labels: ship, category or type")
    data: str | None = Field(None, description="folder with real images (else KIT_DATA, else stand-ins)")

    def run(self) -> Run:
        """The run so described. Raises KitError and ValidationError for what is not allowed, used here or not."""
        from kit.runs.spec import changed

        one_of("recipe", self.recipe, ("kit", "crd"))
        if self.third_teacher and self.temperature not in AT_ONCE:
            allowed = f"with --temperature {' or '.join(AT_ONCE)}, where all teach at once"
            raise KitError(f"--third-teacher {self.third_teacher!r} is not allowed; allowed: {allowed}")
        plan = self.plan()
        student, big, small = (self._chosen(whose) for whose in ("student", "teacher", "small_teacher"))
        changes = {"width": self.width, "batch": self.batch, "lr": self.lr}
        others = {"third": self.third_teacher} if self.third_teacher else None
        run = plan.student(
            student, self.role, self.stages, big, small, self.seed, self.epochs, others=others, **changes
        )
        return changed(run, logits=self.logits) if self.logits != run.logits else run

    def plan(self) -> Plan:
        """The preset, the images and the protocol so chosen. Raises KitError."""
        from kit.paper.plan import Plan

        options = {name: getattr(self, name) for name in ("device", "level", "px", "train_per_class", "test_per_class")}
        plan = Plan.of(self.preset, {self.role: self.source}, self.data, **options)
        preset = by_crd(plan.preset) if self.recipe == "crd" else plan.preset
        return replace(plan, preset=preset, precision=self.precision or plan.precision)

    def _chosen(self, whose: str) -> Chosen | None:
        """The network so chosen. Raises KitError for arguments that are none, or of no network."""
        from kit.paper.plan import Chosen

        name, option = getattr(self, whose), f"--{whose.replace('_', '-')}"
        asked = {of: getattr(self, f"{whose}_{of}", None) for of in OF_A_NETWORK}  # a student has no view of its own
        given = {of: v for of, v in asked.items() if v is not None and (of, v) != ("normalise", "role")}
        for what, value in given.items():
            if name is None:
                raise KitError(f"{option}-{what} {value!r} is of no network; give {option}")
            if what in ("classes", "head") and "weights" not in given:
                raise KitError(f"{option}-{what} {value!r} is for a teacher that is given; give {option}-weights")
        return name and Chosen(name, arguments_of(f"{option}-args", given.pop("args", None)), **given)

    @model_validator(mode="before")
    @classmethod
    def _has_a_role(cls, given: Any) -> Any:
        """Where no role is named a folder is its own, and without one it is the first that the paper has."""
        if not isinstance(given, dict) or given.get("role") is not None:
            return given
        return given | {"role": OWN if given.get("data") else cls.usual_role}

    @field_validator("student_args", "teacher_args", "small_teacher_args", mode="before")
    @classmethod
    def _as_json(cls, given: Any) -> Any:
        """Arguments as a dictionary are kept as the command line has them."""
        from kit.networks.named import as_json

        return as_json(given) if isinstance(given, dict) else given

    def policy(self, epochs: int) -> Policy:
        """The temperature of a run of so many epochs. KitError and ValidationError for what is not allowed."""
        from kit.recipe import adaptive
        from kit.several import Graduation, Together
        from kit.siblings import crd
        from kit.siblings.rows import NAMED
        from kit.temperature import Fixed, Policy, Scheduled

        usual = "adaptive" if self.recipe == "kit" else crd.T
        temperature = usual if self.temperature is None else self.temperature
        if isinstance(temperature, Policy):
            return temperature
        readings = {name: getattr(self, name) for name in ("follows", "optimiser", "normalised", "floor")}
        following = adaptive(epochs, self.k, self.rate, **readings)
        if temperature == "adaptive":
            return following
        if temperature == "schedule":
            return Scheduled(k=self.k, floor=self.floor)
        if temperature == "together":
            return Together.model_validate(dict(following) | {"kind": "together"})
        if temperature == "graduation":
            return Graduation(k=self.k, rate=following.rate, normalised=self.normalised)
        try:
            T = float(str(temperature))  # True is no temperature
        except ValueError:
            allowed = f"adaptive, schedule, {', '.join((*NAMED, *AT_ONCE))}, or a number above 0"
            raise KitError(f"temperature {self.temperature!r} is not known; allowed: {allowed}") from None
        return Fixed(T=T)

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        """The stages that follow from which teachers there are. Raises KitError for an option that changes nothing."""
        used, stages = self._taught(epochs)
        unused = [name for name in (*OF_TEACHING, "small_teacher") if name not in used]
        if not self.teacher:
            why = "there is no --teacher"
        else:
            word = self.temperature if isinstance(self.temperature, str) else self.policy(1).kind
            recipe = "" if self.recipe == "kit" else f" of recipe {self.recipe}"
            beside = " beside a small teacher" if self.small_teacher and "small_teacher" in used else ""
            why = f"temperature {word!r}{recipe} has no use for it{beside}"
        self._without(unused, f"as {why}")
        return stages()

    def _taught(self, epochs: int) -> tuple[set[str], Callable[[], tuple[Stage, ...]]]:
        """How teachers teach in a run of so many epochs: the options that change something, by name, and the stages."""
        from kit import recipe
        from kit.several import at_once
        from kit.siblings import crd
        from kit.siblings.rows import NAMED
        from kit.temperature import Fixed, Policy
        from kit.training.steering import checked, steered

        if not self.teacher:
            return set(), recipe.hard_labels
        always = {"temperature", "logits"}
        if self.temperature in [*NAMED]:
            stages = NAMED[self.temperature](epochs)
            k = {"k"}.intersection(stages[0].temperature.steerable)
            return always | k, lambda: tuple(steered(stage, {"k": checked("k", self.k)}) for stage in stages)
        policy = self.policy(epochs)
        alpha = {} if self.alpha is None else {"alpha": self.alpha}  # else each loss's own
        if isinstance(policy, Fixed) and self.recipe == "crd":
            return always | {"alpha"}, partial(crd.stages, policy.T, **alpha)
        if isinstance(policy, Fixed) and not self.small_teacher:
            return always | {"alpha", "reading"}, partial(recipe.eq1, policy.T, self.reading, **alpha)
        used = always | {"small_teacher", "alpha"}
        if not isinstance(self.temperature, Policy):
            used |= {*type(policy).model_fields}
        if self.temperature in AT_ONCE:
            asked = {"small": self.small_teacher, "big": self.teacher, "third": self.third_teacher}
            return used, partial(at_once, [name for name, network in asked.items() if network], policy, **alpha)
        steps = recipe.small_teacher if self.small_teacher else recipe.big_teacher_only
        return used | {"t_squared"}, partial(steps, policy, t_squared=self.t_squared, **alpha)

    def _without(self, names: Iterable[str], why: str) -> None:
        """Raises KitError for the first of these options that is not as usual."""
        for name in names:
            value, usual = getattr(self, name), type(self).model_fields[name].default
            if value != usual:
                allowed = "without it" if usual is None else repr(usual)
                raise KitError(f"--{name.replace('_', '-')} {value!r} is not allowed; allowed: {allowed}, {why}")

    def pruned(self) -> Settings:
        """The same training, described without options that change nothing."""
        unused = {*OF_TEACHING} - self._taught(1)[0]
        return self.model_copy(update={name: Settings.model_fields[name].default for name in unused})

    def command(self, events: str | None = None) -> str:
        """The line that asks for the same again; `events` is the file of what was steered on the way."""
        words = ["python", "-m", "kit", self.asked_by]
        for name, field in type(self).model_fields.items():
            value, option = getattr(self, name), name.replace("_", "-")
            if value is None or (value == field.default and name not in ("role", "preset")):
                continue
            if name == "role" and value == OWN and self.data:
                continue
            if isinstance(value, bool):
                words.append(f"--{option}" if value else f"--no-{option}")
            else:
                words += [f"--{option}", repr(value).removesuffix(".0") if isinstance(value, float) else str(value)]
        return shlex.join(words + (["--events", events] if events else []))


def without(*networks: str) -> dict[str, Any]:
    """Takes networks, and whatever else is said of them, out of settings: those fields as they are by default."""
    fields = Settings.model_fields.items()
    return {name: field.default for name, field in fields if name.startswith(networks)}
