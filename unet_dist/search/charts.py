"""Charts of a search."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from unet_dist.report.page import axes_at, figure_png, name_axes, new_figure, shorten
from unet_dist.search.holdings import Holding
from unet_dist.search.spec import Objective
from unet_dist.search.times import unit_of
from unet_dist.search.trials import Study, Trial, fronts
from unet_dist.search.view import value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#AAAAAA"
TINTS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#999999", "#666666")
LIGHT_TINTS = TINTS[1], TINTS[3], TINTS[5], TINTS[6]
"""That black can be read on."""
NAME_LENGTH = 24
LARGE, SMALL = 12, 11
"""Points of text: a page shows a chart at half its size."""
BOX = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
"""Behind a number that lines cross."""
MOST_RUNGS = 6
"""That have a tint of their own."""


def best_png(study: Study, holdings: Sequence[Holding]) -> bytes:
    """The first objective at every rung that was finished, and the best value of all so far; what
    breaks a constraint is no best."""
    metric = study.spec.objectives[0].metric
    found = sorted(
        (result.clock_s, trial.number, result.epoch, result.metrics[metric])
        for trial in study.trials
        for result in trial.results
        if metric in result.metrics
    )
    kept = [study.ranking.violation(study.trials[n], epoch) == 0 for _, n, epoch, _ in found]
    better = max if study.spec.objectives[0].goal == "maximize" else min
    epochs = sorted({epoch for *_, epoch, _ in found})
    figure = new_figure(4.1)
    clocks = [clock for clock, *_ in found]
    card_s = [sum(each.card_s(clock) for each in holdings) for clock in clocks]
    for left, seconds, what in ((0.9, clocks, ""), (6.9, card_s, "card-")):
        unit_s, unit = unit_of(max(seconds, default=0.0))
        x = [each / unit_s for each in seconds]
        axes = axes_at(figure, left, 0.5, 5.0, 2.9)
        for number, epoch in enumerate(epochs):
            here = [index for index, each in enumerate(found) if each[2] == epoch]
            axes.scatter(
                [x[i] for i in here], [found[i][3] for i in here], s=16,
                color=TINTS[1 + number] if len(epochs) <= MOST_RUNGS else GREY,
                marker="o", zorder=2, label=f"{epoch} epochs" if len(epochs) <= MOST_RUNGS else "",
            )  # fmt: skip
        broken = [index for index, keeps in enumerate(kept) if not keeps]
        if broken:
            axes.scatter(
                [x[i] for i in broken], [found[i][3] for i in broken], s=40, color="black",
                marker="x", linewidths=0.8, label="breaks a constraint",
            )  # fmt: skip
        best: list[float] = []
        steps: list[float] = []
        for at, (*_, value), keeps in zip(x, found, kept, strict=True):
            if keeps:
                best.append(better(best[-1], value) if best else value)
                steps.append(at)
        axes.step(steps, best, where="post", color="black", linewidth=1.2, label="best so far")
        axes.set_xlim(left=0)
        _name(axes, what + unit, metric)
    axes.legend(
        fontsize=SMALL, frameon=False, loc="lower center", bbox_to_anchor=(-0.1, 1.0),
        ncols=MOST_RUNGS + 2, columnspacing=1.2, handletextpad=0.3,
    )  # fmt: skip
    return figure_png(figure)


def pareto_png(study: Study) -> bytes:
    """The first two objectives at the furthest epoch of each trial; the front is that of all
    objectives, of those that keep the constraints."""
    one, other = study.spec.objectives[:2]
    judged = [
        t
        for t in study.trials
        if t.results and {one.metric, other.metric} <= t.results[-1].metrics.keys()
    ]
    costs = {trial.number: study.ranking.costs(trial, trial.epochs) for trial in judged}
    keeping = [t for t in judged if study.ranking.violation(t, t.epochs) == 0]
    front = fronts(keeping, costs)[0] if keeping else []
    figure = new_figure(4.7)
    axes = axes_at(figure, 1.3, 0.5, 10.2, 3.4)

    def place(trial: Trial) -> tuple[float, float]:
        metrics = trial.results[-1].metrics
        return metrics[one.metric], metrics[other.metric]

    others = [trial for trial in judged if trial not in front]
    for trials, colour, label in ((others, GREY, "other trials"), (front, ORANGE, "front")):
        axes.scatter(
            [place(trial)[0] for trial in trials], [place(trial)[1] for trial in trials],
            s=28, color=colour, label=label,
        )  # fmt: skip
    for trial in front:
        axes.annotate(
            f"{trial.number}", place(trial), xytext=(6, 6), textcoords="offset points",
            fontsize=SMALL, bbox=BOX,
        )  # fmt: skip
    axes.margins(x=0.06, y=0.12)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    _name(axes, _goal(one), _goal(other))
    axes.legend(
        fontsize=SMALL, frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2
    )
    return figure_png(figure)


def parallel_png(study: Study, ordered: Sequence[Trial]) -> bytes:
    """A line for each trial with a result; axes by the shares of ``Space``. A line has a gap at a
    key that its trial has no value of."""
    space = study.spec.searched
    keys = list(space.parameters)
    figure = new_figure(4.9)
    axes = axes_at(figure, 0.9, 0.3, 10.4, 3.4)
    best = max(1, len(ordered) // 10)
    for place, trial in reversed(list(enumerate(ordered))):
        params = trial.params_at(trial.epochs)
        shares = space.shares_of(params)
        y = [
            share if key in params else float("nan")
            for key, share in zip(keys, shares, strict=True)
        ]
        chosen = place < best
        axes.plot(
            range(len(keys)), y, marker=".", markersize=6 if chosen else 3,
            color=ORANGE if chosen else GREY, alpha=1 - 0.6 * place / best if chosen else 0.5,
            linewidth=2.0 if chosen else 0.7,
        )  # fmt: skip
    for position, parameter in enumerate(space.parameters.values()):
        axes.vlines(position, 0, 1, color="#666666", linewidth=0.8)
        if parameter.choice:
            for value in parameter.choice:
                axes.annotate(
                    shorten(value_text(value), 14), (position, parameter.share_of(value)),
                    xytext=(5, 0), textcoords="offset points", fontsize=SMALL, va="center",
                    bbox=BOX,
                )  # fmt: skip
        else:
            for bound, y_text, side in zip(
                parameter.bounds, (-0.03, 1.03), ("top", "bottom"), strict=True
            ):
                axes.text(position, y_text, f"{bound:.3g}", fontsize=SMALL, ha="center", va=side)
    names = [
        shorten(key, NAME_LENGTH) + (" (log)" if parameter.log else "")
        for key, parameter in space.parameters.items()
    ]
    axes.set(ylim=(-0.14, 1.14), yticks=[], xticks=range(len(keys)))
    axes.set_xlim(-0.4, len(keys) - 0.4)
    axes.set_xticklabels(names, fontsize=SMALL, rotation=25, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    return figure_png(figure)


def importance_png(shares: Mapping[str, float]) -> bytes:
    ordered = sorted(shares.items(), key=lambda item: item[1])
    figure = new_figure(1.0 + 0.36 * len(ordered))
    axes = axes_at(figure, 3.0, 0.2, 8.0, 0.36 * len(ordered))
    bars = axes.barh(
        [shorten(key, NAME_LENGTH) for key, _ in ordered],
        [share for _, share in ordered],
        color=BLUE,
    )
    axes.bar_label(
        bars, [f"{100 * share:.0f} %" for _, share in ordered], padding=4, fontsize=SMALL
    )
    axes.margins(x=0.08)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    _name(axes, "share of the variance")
    return figure_png(figure)


def gantt_png(holdings: Sequence[Holding], cards: Mapping[str, int]) -> bytes:
    """A bar for each time that a trial had a card, with the trial's number.

    Args:
        cards: their number by place.
    """
    rows = [(place, card) for place in sorted(cards) for card in range(cards[place])]
    left = 0.9 if len(cards) < 2 else 2.8
    figure = new_figure(1.0 + 0.34 * len(rows))
    axes = axes_at(figure, left, 0.2, 11.6 - left, 0.34 * len(rows))
    last = max((each.ended_s for each in holdings), default=0.0)
    unit_s, unit = unit_of(last)
    for each in holdings:
        duration, tint = each.ended_s - each.began_s, TINTS[each.trial % len(TINTS)]
        for card in each.cards:
            row = rows.index((each.place, card))
            axes.barh(
                row, duration / unit_s, left=each.began_s / unit_s, height=0.8,
                color=tint, edgecolor="white", linewidth=0.4,
            )  # fmt: skip
            if duration > last / 60:
                middle = (each.began_s + each.ended_s) / 2 / unit_s
                axes.text(
                    middle, row, f"{each.trial}", fontsize=SMALL - 1, ha="center",
                    va="center_baseline", color="black" if tint in LIGHT_TINTS else "white",
                )  # fmt: skip
    axes.set(yticks=range(len(rows)), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xlim(0, last / unit_s or 1.0)
    axes.set_yticklabels(
        [f"{card}" if len(cards) < 2 else f"{shorten(place, 20)}: {card}" for place, card in rows]
    )
    _name(axes, unit, "card")
    return figure_png(figure)


def _name(axes: "Axes", x: str, y: str = "") -> None:
    name_axes(axes, x, y)
    axes.xaxis.label.set_fontsize(LARGE)
    axes.yaxis.label.set_fontsize(LARGE)
    axes.tick_params(labelsize=SMALL)


def _goal(objective: Objective) -> str:
    """For example ``dice (more is better)``."""
    more = objective.goal == "maximize"
    return f"{objective.metric} ({'more' if more else 'less'} is better)"
