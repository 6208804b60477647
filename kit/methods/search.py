"""Searches: candidates are proposed, trained briefly as ordinary cached runs, and rewarded; the best is kept.

A search is a `Proposer` in a loop. Several searches go side by side, round by round, so that their candidates train
together. What a search found lies in the cache beside the runs, under the hash of all that decides it: asked again, it
is read, and its cost is the one that was paid.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from functools import cached_property
from operator import add
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from scipy.stats import binom

from kit.errors import KitError
from kit.files import cache_folder, in_cache, write_atomically
from kit.grid.engines import Engine
from kit.grid.training import train_all
from kit.methods.base import Setting
from kit.networks.flops import flops_per_image, parameter_count
from kit.networks.layered import LayeredSpec
from kit.recipe import eq1
from kit.runs.spec import NUMERICS, Run
from kit.runs.store import Failure, Result


@dataclass(frozen=True)
class Spent:
    """What trainings took: student gradient steps, process CPU seconds, seconds of the clock, FLOPs of all networks."""

    steps: int = 0
    seconds: float = 0.0
    wall_s: float = 0.0
    flops: int = 0

    @classmethod
    def of(cls, result: Result) -> Spent:
        metrics = result.metrics
        steps = sum(stage["steps"] for stage in metrics["stages"])
        return cls(steps, result.seconds, metrics["wall_s"], metrics["student_flops"] + metrics["teacher_flops"])

    def __add__(self, other: Spent) -> Spent:
        return Spent(*map(add, astuple(self), astuple(other)))


@dataclass(frozen=True)
class Candidate:
    """A network to be tried; None where the choices leave no network at all."""

    choices: tuple[int, ...]
    what: str  # the choices in words
    spec: LayeredSpec | None
    cost: float  # FLOPs of one image forward; 0 where there is no network
    params: int
    phase: str = ""
    note: str = ""

    @classmethod
    def of(
        cls, choices: tuple[int, ...], what: str, spec: LayeredSpec | None, px: int, phase: str = "", note: str = ""
    ) -> Candidate:
        """The candidate with what its network costs at images of px × px."""
        cost, params = (flops_per_image(spec, px)[0], parameter_count(spec.build())) if spec else (0, 0)
        return cls(choices, what, spec, cost, params, phase, note)


class Proposer(Protocol):
    """What tells one search from another."""

    name: str
    fallback: LayeredSpec  # what is trained in full where no candidate was any good

    @property
    def identity(self) -> Mapping[str, Any]: ...  # all that decides what it proposes and rewards, as JSON

    def propose(self, n: int, round: int, rounds: int) -> list[Candidate]: ...

    def reward(self, candidate: Candidate, accuracy: float) -> float: ...  # accuracy 0…1 on held-out images

    def learn(self, candidates: Sequence[Candidate], rewards: Sequence[float]) -> None: ...


AT_CHANCE = "candidates were judged at chance level"  # begins a note
DEGENERATE = -1.0  # the reward of a candidate without a network, as in N2N


@dataclass(frozen=True)
class Found:
    """A search's outcome: the network to train in full, the log, and what was paid."""

    chosen: LayeredSpec
    log: pd.DataFrame  # a line a candidate, as Search._enter makes it
    policy_seconds: float  # process CPU seconds of proposing and learning
    notes: tuple[str, ...] = ()

    @property
    def spent(self) -> Spent:
        """On all candidates' trainings, and on proposing and learning."""
        on_candidates = {field.name: self.log[field.name].sum().item() for field in fields(Spent)}
        return Spent(**on_candidates) + Spent(seconds=self.policy_seconds, wall_s=self.policy_seconds)


class Search:
    """A proposer, from one seed, in one setting. `ask` for a round's candidates, `tell` their results, until `is_over`.

    Candidates are distilled from the explained model by ordinary distillation.
    """

    def __init__(self, setting: Setting, proposer: Proposer, seed: int) -> None:
        self.setting, self.proposer, self.seed = setting, proposer, seed
        self.lines: list[dict[str, Any]] = []
        self.policy_seconds = 0.0
        self._best: tuple[float, LayeredSpec] | None = None
        self._asked: list[tuple[Candidate, Run | None]] = []
        self._round = 0

    @property
    def is_over(self) -> bool:
        return self._round >= self.setting.search.rounds

    @cached_property
    def hash(self) -> str:
        """16 hex digits over everything that can change what it finds."""
        likely = self._run(self.proposer.fallback)
        identity = {
            "proposer": dict(self.proposer.identity),
            "size": self.setting.search.model_dump(),
            "candidate": likely.model_dump(mode="json"),
            "numerics": NUMERICS,
        }
        return _digest(identity)[:16]

    @property
    def place(self) -> Path:
        """Where the cache has what it found."""
        return cache_folder() / "searches" / f"{self.hash}.json"

    def _run(self, student: LayeredSpec) -> Run:
        return self.setting.candidate(eq1(self.setting.T, "hinton"), student, self.seed)

    def ask(self) -> list[Run]:
        """This round's runs. Candidates without a network have none."""
        begun, size = time.process_time(), self.setting.search
        proposed = self.proposer.propose(size.candidates, self._round, size.rounds)
        self._asked = [(each, None if each.spec is None else self._run(each.spec)) for each in proposed]
        self.policy_seconds += time.process_time() - begun
        return [run for _, run in self._asked if run is not None]

    def tell(self, results: Mapping[Run, Result | Failure]) -> None:
        """Rewards the round's candidates and lets the proposer learn."""
        begun = time.process_time()
        rewards = [self._enter(each, run, None if run is None else results[run]) for each, run in self._asked]
        self.proposer.learn([each for each, _ in self._asked], rewards)
        self._round += 1
        self.policy_seconds += time.process_time() - begun

    def _enter(self, candidate: Candidate, run: Run | None, outcome: Result | Failure | None) -> float:
        """A line of the log. A network that was tried before costs nothing again: its run is in the cache."""
        is_new = run is not None and run.hash not in [line["run"] for line in self.lines]
        note, accuracy, reward, paid = candidate.note, None, DEGENERATE, Spent()
        if isinstance(outcome, Result):
            accuracy = outcome.metrics["test_top1"]  # of the held-out images
            reward = self.proposer.reward(candidate, accuracy)
            paid = Spent.of(outcome) if is_new else paid
            if self._best is None or reward > self._best[0]:
                self._best = (reward, candidate.spec)
        elif isinstance(outcome, Failure):
            note, paid = outcome.reason, Spent(steps=outcome.step or 0) if is_new else paid
        self.lines.append(
            {
                "round": self._round + 1,
                "sample": len(self.lines) + 1,
                "phase": candidate.phase,
                "choices": list(candidate.choices),
                "what": candidate.what,
                "accuracy": accuracy,
                "reward": reward,
                "best": None if self._best is None else self._best[0],
                "cost": candidate.cost,
                "params": candidate.params,
                **asdict(paid),
                "run": run.hash if run else "",
                "note": note if is_new or run is None else f"{note} tried before".strip(),
            }
        )
        return reward

    def found(self) -> Found:
        """The best network so far; the proposer's fallback, with a note, where there is none."""
        if self._best is None:
            chosen = self.proposer.fallback
            notes = [
                f"none of {len(self.lines)} candidates was a network that trains: {chosen.title} is taken as it is"
            ]
        else:
            chosen, notes = self._best[1], self._at_chance()
        chosen = chosen.model_copy(update={"title": f"{self.proposer.name} of {self.setting.student.title}"})
        return Found(chosen, pd.DataFrame(self.lines), self.policy_seconds, tuple(notes))

    def _at_chance(self) -> list[str]:
        """A note where not even the best candidate was better than guessing: the search then chose by chance.

        The level is 5 % for all candidates together (Bonferroni).
        """
        accuracies = [line["accuracy"] for line in self.lines if line["accuracy"] is not None]
        data = self.setting.data
        images = data.train_images - self.setting.searched_on.train_images
        best, chance = max(accuracies, default=0.0), 1 / data.classes
        if not accuracies or binom.sf(round(best * images) - 1, images, chance) * len(accuracies) < 0.05:
            return []
        return [f"{AT_CHANCE}: the best candidate knew {best:.1%} of the held-out images, guessing knows {chance:.1%}"]


def search_all(searches: Sequence[Search], jobs: int | Engine | None = None, show_progress: bool = True) -> list[Found]:
    """Runs the searches side by side, round by round, and gives what each found; those in the cache are only read."""
    known = {search.hash: found for search in searches if (found := recall(search)) is not None}
    fresh = {search.hash: search for search in searches if search.hash not in known}
    while under_way := [search for search in fresh.values() if not search.is_over]:
        asked = {search.hash: search.ask() for search in under_way}
        results = train_all([run for runs in asked.values() for run in runs], jobs, show_progress)
        for search in under_way:
            search.tell(results)
    for search in fresh.values():
        known[search.hash] = remember(search)
    return [known[search.hash] for search in searches]


def remember(search: Search) -> Found:
    """Writes what a search found into the cache, whole or not at all."""
    found = search.found()
    content = {"chosen": found.chosen.model_dump(mode="json"), "log": search.lines, "notes": list(found.notes)}
    content["policy_seconds"] = found.policy_seconds
    with in_cache("searches"):
        write_atomically(search.place, json.dumps(content | {"sha256": _digest(content)}, indent=1))
    return found


def recall(search: Search) -> Found | None:
    """What the search found before, if it ran. KitError where the file is cut short or altered."""
    try:
        content = json.loads(search.place.read_text(encoding="utf-8"))
        if content.pop("sha256") != _digest(content):
            raise ValueError("it does not match its checksum")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise KitError(
            f"search {search.hash} in {search.place.parent}: {error}; remove the file to search anew"
        ) from None
    chosen, log = LayeredSpec.model_validate(content["chosen"]), pd.DataFrame(content["log"])
    return Found(chosen, log, content["policy_seconds"], tuple(content["notes"]))


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
