"""What is asked: on these data, with these networks, does being taught help, and which way of it?

    Question(data="pets/", student="resnet34", seeds=5).rows()

It is `Settings` with other defaults, so whatever a training can be given can be given here, too, but a third teacher.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from kit.errors import KitError
from kit.paper.presets import preset_named
from kit.paper.settings import Settings, without

if TYPE_CHECKING:
    from kit.paper.plan import Row
    from kit.runs.spec import Run

NO_SMALL = "none"  # the word for no small teacher


@dataclass(frozen=True)
class Method:
    """One way to train the student, as a table's row (`label`, `reading`), as a title, and as a sentence has it."""

    label: str
    reading: str
    title: str
    said: str
    changes: dict[str, Any] = field(compare=False)  # of the question's settings

    @property
    def key(self) -> tuple[str, str]:
        return self.label, self.reading


class Question(Settings):
    """What a person wants judged. Field for field the options of `python -m kit judge`.

    Without anything it is about scikit-learn's digits. `temperature` and `reading` are ordinary distillation's; K, rate
    and what else moves t are the adaptive temperature's; the rest is the same in every row.
    """

    student: str | None = Field(
        None, description="default: cnn, at half the preset's width, so that teachers know more"
    )
    asked_by: ClassVar[str] = "judge"
    usual_role: ClassVar[str | None] = None  # the embedded digits
    third_teacher: ClassVar[None] = None  # no row here has teachers at once

    role: str | None = Field(None, description="default: the folder of --data, else the embedded digits")
    teacher: str = Field("vgg16", description="the big teacher")
    small_teacher: str = Field(
        "cnn", min_length=1, description=f"learnt from first in the last row; {NO_SMALL!r}: no such row"
    )
    temperature: float = Field(4.0, gt=0, allow_inf_nan=False, description="T of ordinary distillation, the usual one")
    reading: Literal["printed", "hinton"] = Field(
        "hinton", description="of Eq. (1) there: hinton, the usual, or printed"
    )
    seed: int = Field(0, description="the first seed")
    seeds: int | None = Field(  # no more than `kit.runs.spec.TEACHERS`
        None, ge=1, le=1000, description="of students, each with its own teachers; default: the preset's"
    )

    @field_validator("small_teacher", mode="before")
    @classmethod
    def _in_a_word(cls, given: Any) -> Any:
        """No small teacher is kept as the command line has it."""
        return NO_SMALL if given is None else given

    @property
    def methods(self) -> tuple[Method, ...]:
        """The rows, each dearer than those before it."""
        T = f"T={self.temperature:g}"
        found = (
            Method(
                "hard labels", "no teacher", "hard labels", "hard labels",
                without("teacher", "small_teacher"),
            ),
            Method(T, self.reading, f"ordinary distillation, {T}", "ordinary distillation", without("small_teacher")),
            Method(
                "adaptive", "big teacher only", "adaptive temperature", "the adaptive temperature",
                {"temperature": "adaptive"} | without("small_teacher"),
            ),
            Method(
                "adaptive", "three steps", "adaptive, small teacher first", "the small teacher",
                {"temperature": "adaptive"},
            ),
        )  # fmt: skip
        return found[:-1] if self.small_teacher == NO_SMALL else found

    def settings(self, method: Method, seed: int) -> Settings:
        """The training that a seed of a row is."""
        preset = preset_named(self.preset)
        own = {name: getattr(self, name) for name in Settings.model_fields}
        if self.student is None:
            half = max(1, preset.student_width // 2)
            own |= {"student": "cnn", "width": half if self.width is None else self.width}
        if self.role is None:
            own |= {"role": "cifar-10", "source": "embedded"}
        return Settings(**own | method.changes | {"seed": self.seed + seed}).pruned()

    def rows(self) -> list[Row]:
        """Every method's row, a run a seed. KitError and ValidationError for what is not allowed."""
        from kit.paper.plan import Row

        if self.small_teacher == NO_SMALL:
            of_it = [name for name in type(self).model_fields if name.startswith("small_teacher_")]
            self._without(of_it, f"as there is no row of a small teacher where it is {NO_SMALL!r}")
        if self.role is None and self.source == "real":
            self._without(["source"], "as neither --data nor --role says which")
        if self.recipe == "crd":
            self._without(["reading"], "as recipe 'crd' has its own loss")
        seeds = range(self.seeds or preset_named(self.preset).seeds)
        return [
            Row(each.label, each.reading, tuple(self.settings(each, seed).run() for seed in seeds))
            for each in self.methods
        ]

    def about(self, rows: Sequence[Row]) -> str:
        """Says on what data, by which networks and for how long, before anything is trained."""
        run, preset = rows[-1].runs[0], self.preset
        data = run.data.load().described
        return (
            f"{data}\n{lesson(run)} for {run.recipe.epochs} epochs (preset "
            f"{preset}) · {len(rows)} rows from {seeds_of(rows)}{self._small}"
        )

    @property
    def _small(self) -> str:
        """Says, beside networks of one's own, that the small teacher is the kit's where none was asked for."""
        from kit.models import MODELS, TITLES

        default = Question.model_fields["small_teacher"].default
        others = [model for model in (self.student, self.teacher) if model not in (None, *MODELS)]
        if not others or self.small_teacher != default:
            return ""
        return f"\nsmall teacher: the kit's {TITLES[default]}; another by --small-teacher, {NO_SMALL!r}: no such row"

    def command(self, events: str | None = None) -> str:
        """The line that asks the same question again."""
        if events:
            raise KitError(f"events {events!r} are of one training; allowed: none where several are judged")
        return super().command()


def lesson(run: Run) -> str:
    """Says who teaches whom: `CNN and VGG-16 teach ResNet-34`."""
    teachers = [teacher.student.title for teacher in run.teachers.values()]
    return f"{' and '.join(teachers)} {'teach' if len(teachers) > 1 else 'teaches'} {run.student.title}"


def seeds_of(rows: Sequence[Row]) -> str:
    """Says how many seeds there are and, of several, which teachers each has of its own, and which are the same."""
    runs = rows[-1].runs
    if len(runs) == 1:
        return "1 seed"
    same = [name for name in runs[0].teachers if len({run.teachers[name] for run in runs}) == 1]
    own = [name for name in runs[0].teachers if name not in same]
    if same and own:
        return f"{len(runs)} seeds, all with the same {same[0]} teacher, each with its own {own[0]} teacher"
    return f"{len(runs)} seeds, {'each with its own' if own else 'all with the same'} teachers"


def counted(n: int, thing: str) -> str:
    return f"{n} {thing}{'' if n == 1 else 's'}"
