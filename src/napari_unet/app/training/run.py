"""One training, from its start or resume to its end; `napari_unet.app.train` drives it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import torch

# The first optimizer imports it, which takes a second: now, as imports count against no budget.
import torch._dynamo

from napari_unet.app.training.defaults import defaults_of, loop_settings, rehearsal_share
from napari_unet.app.training.ground import OpenedData, TrainingGround, check_annotated
from napari_unet.app.training.head_start import give_head_start
from napari_unet.app.training.judge import Question, judge
from napari_unet.app.training.plan import (
    TrainPlan,
    TrainRecord,
    check_unchanged,
    read_train_record,
    write_train_record,
)
from napari_unet.app.training.preview import LAST_PREVIEW_SECONDS, Previewer, Scene
from napari_unet.app.training.rehearsal import find_rehearsal
from napari_unet.app.training.run_folder import read_log
from napari_unet.app.training.session import (
    Judges,
    Network,
    Start,
    bounded,
    comparison_seconds,
    make_judges,
    make_sampler,
    output_edge,
    pixel_bounds,
    score_start,
    start_network,
)
from napari_unet.app.training.trained_model import TrainingReport, write_model
from napari_unet.core.events import StageChanged, Warned
from napari_unet.core.train_events import (
    EndReason,
    PreviewReady,
    StepDone,
    Stopped,
    TrainingFinished,
    TrainingStarted,
    Validated,
)
from napari_unet.errors import TrainingError
from napari_unet.inference.device import choose_backend
from napari_unet.metrics.bootstrap import paired_difference
from napari_unet.training.checkpoint import LAST, load_checkpoint
from napari_unet.training.loop import train
from napari_unet.training.state import TrainingState

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from typing import Any

    from torch import nn

    from napari_unet.app.training.held_out import Scorer, Scores
    from napari_unet.core.train_events import TrainEvent, TrainingEvent
    from napari_unet.core.train_job import TrainJob
    from napari_unet.inference.control import JobControl
    from napari_unet.training.loop_settings import LoopSettings
    from napari_unet.training.volumes import VolumeSampler

JUDGING_MARGIN = 1.3
"""Time that is kept for judging, over what it took with the first weights: others may compute."""

FINISHING_SECONDS = 0.5
"""Time that is kept for writing the model file."""

LEAST_SECONDS = 0.1
"""For the steps, when a budget is spent before they begin: one step is taken."""

QUICK_SECONDS = 10.0
"""A training that was stopped is still judged if that takes no longer."""


@dataclass(slots=True, eq=False)
class TrainingRun:
    """One training, from its start or resume to its end."""

    job: TrainJob
    control: JobControl
    clock: Callable[[], float]
    started: float = field(init=False)
    plan: TrainPlan = field(init=False)
    ground: TrainingGround = field(init=False)
    network: Network = field(init=False)
    judges: Judges = field(init=False)
    start: Start = field(init=False)
    record: TrainRecord = field(init=False)
    settings: LoopSettings = field(init=False)
    sampler: VolumeSampler = field(init=False)
    report: TrainingReport = field(init=False)
    start_weights: dict[str, Any] = field(init=False)
    state: TrainingState = field(init=False)
    reason: EndReason = "complete"
    detail: str = ""
    previewer: Previewer = field(init=False)
    preview: PreviewReady | Warned | None = None

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the start or the resume."""
        return self.clock() - self.started

    @property
    def is_stopped_early(self) -> bool:
        """Whether the user stopped it before anything was learnt."""
        return self.control.stopped and self.report.steps == 0

    def prepare(self, opened: OpenedData, *, resume: bool) -> Generator[TrainEvent]:
        """Make everything ready for the first step, or the next one."""
        job, plan = self.job, self.plan
        check_annotated(opened.data)
        for text in opened.data.warnings():
            yield Warned(text)
        yield StageChanged("normalizing")
        images = opened.images()
        yield StageChanged("splitting")
        backend = choose_backend(job.device, threads=job.threads)
        self.network = start_network(plan, opened.data, backend)
        split = opened.split(job, self.network.geometry)
        names = tuple(item.name for item in opened.data.classes)
        rehearsal = find_rehearsal(plan, names, rehearsal_share(job))
        self.ground = TrainingGround(opened, images, split, rehearsal)
        for text in self.ground.check_learnable(self.network.known):
            yield Warned(text)
        if not split.has_claim:
            yield Warned(split.note)
        yield StageChanged("loading")
        self._decide(resume=resume)
        self.report = TrainingReport(
            self._settings(),
            self.record.data,
            self.ground.annotated,
            split.note,
            rehearsal="" if rehearsal is None else rehearsal.note,
        )
        if resume:
            self._restore()
        else:
            write_train_record(plan.run, self.record)
        yield self._started_event()

    def _restore(self) -> None:
        """Take up what a checkpoint knows."""
        state = load_checkpoint(self.plan.run / LAST)
        self.report.steps = int(state["step"])
        found = [e for e in read_log(self.plan.run) if e.get("event") == "validated"]
        best = [int(e["step"]) for e in found if e["is_best"] and e["step"] <= self.report.steps]
        self.report.best_step = max(best, default=0)

    def _decide(self, *, resume: bool) -> None:
        """Work out, or read back, what the machine decides: costs and the size of patches."""
        plan, opened = self.plan, self.ground.opened
        judges = make_judges(plan, self.ground, self.network)
        now = _identify(plan, self.ground)
        if resume:
            self.record = read_train_record(plan.run)
            check_unchanged(self.record, now, plan.run)
        else:
            bounds = pixel_bounds(plan, judges, self.network.net, self.clock)
            self.record = now.model_copy(
                update={"selection_pixels": bounds[0], "judging_pixels": bounds[1]}
            )
        selection, judging = self.record.selection_pixels, self.record.judging_pixels
        self.judges = bounded(judges, selection, judging, self.job.seed)
        self.start = score_start(self.judges, self.network, self.clock)
        self.start_weights = {k: v.clone() for k, v in self.network.net.state_dict().items()}
        edge = self.record.output_edge if resume else output_edge(plan, self.network, opened.data)
        self.record = self.record.model_copy(update={"output_edge": edge})
        weights = self.ground.class_weights(defaults_of(self.job).balance_power)
        self.sampler = make_sampler(plan, self.ground, self.network, edge, weights)
        # With a weight map, balance is part of that (Ronneberger et al. 2015, eq. 2).
        in_loss = () if self.ground.weighs_gaps else weights
        if not resume:
            share = give_head_start(plan, self.network, self.ground, weights, judging)
            update = {"contradicted": share, "seconds": self._seconds_for_steps()}
            self.record = self.record.model_copy(update=update)
        record = self.record
        self.settings = loop_settings(
            self.job,
            record.seconds,
            in_loss,
            contradicted=record.contradicted,
            is_new=0 < len(self.network.known) < len(self.ground.class_names),
        )

    def _seconds_for_steps(self) -> float | None:
        if self.plan.budget is None:
            return None
        selection = self.judges.selection
        pixels = self.judges.pixels + (selection.pixels if selection else 0)
        judging = JUDGING_MARGIN * pixels * self.start.seconds_per_pixel
        preview = 0.0 if self.control.viewport is None else LAST_PREVIEW_SECONDS
        later = judging + preview + comparison_seconds(self.plan.budget) + FINISHING_SECONDS
        left = self.plan.budget - self.elapsed - later
        return max(left, LEAST_SECONDS)

    def _start_metrics(self) -> dict[str, float]:
        if self.start.selection is None:
            return {}
        return self.start.selection.metrics(self.ground.class_names)

    def learn(self, *, resume: bool) -> Generator[TrainEvent]:
        """Take all steps; the network then holds the weights to be kept."""
        yield StageChanged("training")
        metrics = self._start_metrics()
        if metrics and not resume:
            yield Validated(0, metrics, is_best=False)
        self.state = state = TrainingState(self.network.net, self.settings, self.network.parent)
        self.previewer = self._make_previewer()
        loop = train(
            state,
            self.sampler.draw,
            self.settings,
            validate=self._validate,
            run_dir=self.plan.run,
            resume=resume,
        )
        with closing(cast("Generator[TrainingEvent]", loop)) as events:
            for event in events:
                if isinstance(event, StepDone) and self.previewer.is_due:
                    self.preview = self.previewer.make(state.averaged, event.step)
                yield from self._passed_on(event)
                self.control.wait_while_paused()
                if self.control.stopped:
                    self.reason, self.detail = "stopped", "stopped by the user"
                    break
        self._keep_best()
        # What is shown in the end is what is kept.
        last = self.previewer.make(self.network.net, self.report.best_step)
        if last is not None:
            yield last

    def _passed_on(self, event: TrainingEvent) -> Generator[TrainEvent]:
        match event:
            case StepDone(step=step):
                self.report.steps = step
            case Validated(step=step, is_best=True):
                self.report.best_step = step
            case Stopped(reason=reason):
                self.reason = "plateau" if self.state.is_on_plateau else "non-finite loss"
                self.detail = reason
        yield event
        if self.preview is not None:
            yield self.preview
            self.preview = None

    def _keep_best(self) -> None:
        """Go back to the first weights if no validation was better; refuse to keep nothing."""
        steps, report = self.report.steps, self.report
        if self.reason == "non-finite loss" and steps == 0:
            raise TrainingError(
                f"nothing was learnt: {self.detail}; check the gray values of the images, or give "
                "a lower peak_rate"
            )
        if report.best_step == 0:
            # No validation has chosen any: the newest ones are kept.
            report.best_step = steps
        if self._is_worse_than_start():
            self.network.net.load_state_dict(self.start_weights)
            report.best_step = 0

    def _is_worse_than_start(self) -> bool:
        """Whether the labels that select show that the parent's weights were better.

        A lower score alone does not: a few strokes make it a matter of chance.
        """
        selection, first = self.judges.selection, self.start.selection
        if selection is None or first is None or not self.network.known:
            return False
        kept = selection.score(self.network.net)
        found = paired_difference(first.blocks, kept.blocks, seed=self.job.seed)
        return found.verdict == "worse"

    def judge(self) -> Generator[TrainEvent]:
        """Compare the kept weights with the parent's, on what neither of them has seen."""
        expected = self.judges.pixels * self.start.seconds_per_pixel
        if self.reason == "stopped" and expected > QUICK_SECONDS:
            yield Warned(
                f"it was stopped, and judging would take {expected:.0f} s; it was left out"
            )
            return
        yield StageChanged("judging")
        for question, scorer, before in self._questions():
            judged = judge(before, scorer.score(self.network.net), question)
            self.report.judged.append(judged)
            yield judged

    def _questions(self) -> Generator[tuple[Question, Scorer, Scores | None]]:
        names, known = self.ground.class_names, frozenset(self.network.known)
        if self.judges.judging is not None:
            question = Question("judging blocks", names, known, self.job.seed)
            yield question, self.judges.judging, self.start.judging
        if self.judges.crops is not None and known:
            question = Question("regression crops", names, known, self.job.seed)
            yield question, self.judges.crops, self.start.crops

    def finish(self) -> Generator[TrainEvent]:
        """Write the model file."""
        yield StageChanged("finishing")
        if self.reason == "complete" and self.plan.budget is not None:
            self.reason = "budget"
        report = self.report
        detail = self.detail or (
            f"all {report.steps} steps are taken"
            if self.reason == "complete"
            else f"the {self.plan.budget:g} s are used up"
        )
        if report.best_step == 0:
            detail += "; the weights that it began with were better, and are kept"
        classes = self.ground.opened.data.classes
        path = write_model(self.plan, self.network.net, classes, self.network.expected, report)
        yield TrainingFinished(
            model=str(path),
            name=self.plan.name,
            run=str(self.plan.run),
            reason=self.reason,
            detail=detail,
            steps=report.steps,
            best_step=report.best_step,
            seconds=self.elapsed,
        )

    def _validate(self, net: nn.Module) -> Mapping[str, float]:
        """Score weights for the loop, if labels select."""
        if self.plan.budget is None:
            # Counted in steps: whoever looks sees the same weights on every machine.
            self.preview = self.previewer.make(net, self.report.steps)
        if self.judges.selection is None:
            return {}
        return self.judges.selection.score(net).metrics(self.ground.class_names)

    def _make_previewer(self) -> Previewer:
        network, ground = self.network, self.ground
        resampling = ground.opened.data.volumes[0].resampling
        scene = Scene(ground.images[0], network.geometry, network.backend, resampling)
        before = self.start_weights if network.known else None
        return Previewer(self.plan.run, scene, self.control, self.clock, before)

    def _settings(self) -> dict[str, Any]:
        """Return all settings, resolved, for the model file."""
        job = self.job.model_dump(mode="json", exclude_defaults=True, exclude={"output", "run"})
        return {
            "job": job,
            "loop": self.settings.model_dump(mode="json", exclude_defaults=True),
            "sampler": self.sampler.settings.model_dump(mode="json", exclude_defaults=True),
            "device": self.network.backend.label,
        }

    def _started_event(self) -> TrainingStarted:
        ground, record, known = self.ground, self.record, self.network.known
        return TrainingStarted(
            run=str(self.plan.run),
            output=str(self.plan.output),
            parent=None if self.plan.parent is None else self.plan.parent.name,
            classes=tuple((item.name, item.color) for item in ground.opened.data.classes),
            new_classes=tuple(name for name in ground.class_names if name not in known),
            annotated=ground.annotated,
            held_out=ground.held_out,
            validation=ground.split.note,
            device=self.network.backend.label,
            threads=torch.get_num_threads(),
            output_edge=record.output_edge,
            steps=self.job.steps,
            seconds=record.seconds,
            first_step=self.report.steps,
            rehearsed=0 if ground.rehearsal is None else len(ground.rehearsal.crops),
        )


def _identify(plan: TrainPlan, ground: TrainingGround) -> TrainRecord:
    """Return what a resumed training must have in common with this one."""
    given = ground.opened.given
    return TrainRecord(
        data=[dict(volume.fingerprint) for volume in ground.opened.data.volumes],
        validation=[] if given is None else [dict(v.fingerprint) for v in given.volumes],
        parent=None if plan.parent is None else plan.parent.sha256,
        classes=ground.class_names,
        rehearsal=None if ground.rehearsal is None else ground.rehearsal.sha256,
    )
