"""What a search will do, in words, before it begins."""

from typing import Any

from unet_dist.config import Config
from unet_dist.errors import counted
from unet_dist.search.rungs import fewest_for_last, may_reach_last, rungs_of
from unet_dist.search.site import Site
from unet_dist.search.spec import SearchSpec
from unet_dist.search.view import seeds_text
from unet_dist.search.winner import seeds_after


def plan_of(spec: SearchSpec, site: Site, base: Config) -> dict[str, Any]:
    return {
        "cards": site.cards(),
        "widths": list(spec.widths()),
        "rungs": list(rungs_of(spec.algorithm, base.train.epochs)),
        **spec.model_dump(mode="json", by_alias=True),
    }


def plan_text(spec: SearchSpec, site: Site, base: Config, note: str = "") -> str:
    """
    Args:
        note: of ``reference.base_note``.
    """
    algorithm = spec.algorithm
    goals = ", ".join(f"{each.goal} {each.metric}" for each in spec.objectives)
    widths = ", ".join(map(str, spec.widths()))
    notes = [population_note(spec), too_few_note(spec, base.train.epochs), note]
    lines = [
        f"{counted(spec.budget.trials, 'trial')}, points by {algorithm.points}, "
        f"schedule {algorithm.schedule}; {goals}",
        f"{counted(site.cards(), 'card')}, {widths} for a trial",
        *(f"  {key}: {_range(parameter)}" for key, parameter in spec.space.items()),
        _rungs_text(spec, base.train.epochs),
        _retraining_text(spec, base),
        *filter(None, notes),
    ]
    return "\n".join(lines)


def _rungs_text(spec: SearchSpec, epochs: int) -> str:
    rungs = rungs_of(spec.algorithm, epochs)
    if len(rungs) == 1:
        return f"each trial trains for {counted(epochs, 'epoch')}"
    text = f"rungs after {', '.join(map(str, rungs[:-1]))} of {epochs} epochs"
    if spec.algorithm.schedule == "population":
        return f"{text}: there the worst copy the best"
    return f"{text}: from each the best 1 in {spec.algorithm.reduction} goes on"


def _retraining_text(spec: SearchSpec, base: Config) -> str:
    top = min(spec.retrain.top, spec.budget.trials)
    if not top:
        return "nothing is trained again (retrain.top is 0)"
    seeds = seeds_text(seeds_after(base.seed, spec.retrain.seeds))
    best = "the best trial is" if top == 1 else f"the best {top} are"
    beside = ", and the base beside" if spec.include_base else ""
    most = (top + spec.include_base) * spec.retrain.seeds
    return (
        f"then {best} trained again with {seeds}{beside}: up to {counted(most, 'training')} "
        f"of {counted(base.train.epochs, 'epoch')}"
    )


def population_note(spec: SearchSpec) -> str:
    """What a user may take for something else."""
    if spec.algorithm.schedule != "population" or not spec.retrain.top:
        return ""
    return (
        "note: the seeds train with only the last values of a member of the population, from the "
        "start: its way there, with others' weights and values, is not repeated (retrain.top: 0 "
        "leaves them out)"
    )


def too_few_note(spec: SearchSpec, epochs: int) -> str:
    """That the search itself trains nothing to its end; empty if it may."""
    trials, num_rungs = spec.budget.trials, len(rungs_of(spec.algorithm, epochs))
    if may_reach_last(spec.algorithm, trials, num_rungs):
        return ""
    possible, sure = fewest_for_last(spec.algorithm, num_rungs)
    only = "only the retraining does" if spec.retrain.top else "and retrain.top is 0"
    return (
        f"note: with {counted(trials, 'trial')} none can come to the last of {num_rungs} rungs, "
        f"{epochs} epochs, in the search itself ({only}): {possible} can bring one there, {sure} "
        "surely do; ask for more (--trials), or raise algorithm.min_epochs"
    )


def _range(parameter: Any) -> str:
    text = (
        ", ".join(map(str, parameter.choice))
        if parameter.choice
        else "{:g} to {:g}".format(*parameter.bounds) + (", by factors" if parameter.log else "")
    )
    when = "; ".join(f"{key} {list(values)}" for key, values in parameter.when.items())
    return text + (f", if {when}" if when else "")
