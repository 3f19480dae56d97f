"""Charts of a search."""

from collections.abc import Mapping, Sequence

from unet_dist.report.page import axes_at, figure_png, name_axes, new_figure, shorten
from unet_dist.search.holdings import Holding
from unet_dist.search.trials import Study, Trial, fronts

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#BBBBBB"
TINTS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#999999", "#666666")
NAME_LENGTH = 24


def best_png(study: Study, holdings: Sequence[Holding]) -> bytes:
    """The first objective of every rung that was finished, and the best of the furthest rung."""
    metric = study.spec.objectives[0].metric
    found = sorted(
        (result.clock_s, trial.number, result.epoch, result.metrics[metric])
        for trial in study.trials
        for result in trial.results
        if metric in result.metrics
    )
    better = max if study.spec.objectives[0].goal == "maximize" else min
    figure = new_figure(3.6)
    clocks = [clock for clock, *_ in found]
    card_s = [sum(each.card_s(clock) for each in holdings) for clock in clocks]
    for left, seconds, label in ((0.8, clocks, "hours"), (6.6, card_s, "card-hours")):
        x = [each / 3600 for each in seconds]
        axes = axes_at(figure, left, 0.3, 5.0, 2.7)
        axes.scatter(x, [value for *_, value in found], s=10, color=GREY, label="a rung of a trial")
        best: list[float] = []
        for *_, value in found:
            best.append(better(best[-1], value) if best else value)
        axes.step(x, best, where="post", color=BLUE, label="best so far")
        name_axes(axes, label, metric)
        axes.legend(fontsize=8, frameon=False, loc="lower right")
    return figure_png(figure)


def pareto_png(study: Study) -> bytes:
    """The first two objectives at the furthest epoch of each trial."""
    first, second = (each.metric for each in study.spec.objectives[:2])
    judged = [
        t for t in study.trials if t.results and {first, second} <= t.results[-1].metrics.keys()
    ]
    costs = {trial.number: study.ranking.costs(trial, trial.epochs) for trial in judged}
    front = fronts(judged, costs)[0] if judged else []
    figure = new_figure(3.9)
    axes = axes_at(figure, 0.9, 0.3, 6.0, 3.0)
    for trials, colour, label in ((judged, GREY, "trials"), (front, ORANGE, "front")):
        axes.scatter(
            [trial.results[-1].metrics[first] for trial in trials],
            [trial.results[-1].metrics[second] for trial in trials],
            s=18, color=colour, label=label,
        )  # fmt: skip
    for trial in front:
        metrics = trial.results[-1].metrics
        axes.annotate(f"{trial.number}", (metrics[first], metrics[second]), fontsize=8)
    name_axes(axes, first, second)
    axes.legend(fontsize=8, frameon=False)
    return figure_png(figure)


def parallel_png(study: Study, ordered: Sequence[Trial]) -> bytes:
    """A line for each trial with a result; axes by the shares of ``Space``."""
    space = study.spec.searched
    keys = list(space.parameters)
    figure = new_figure(4.4)
    axes = axes_at(figure, 0.6, 0.4, 10.9, 3.1)
    best = max(1, len(ordered) // 10)
    for place, trial in reversed(list(enumerate(ordered))):
        params = trial.params_at(trial.epochs)
        shares = space.shares_of(params)
        x = [i for i, key in enumerate(keys) if key in params]
        y = [shares[i] for i in x]
        shade = 1 - 0.6 * place / best if place < best else 0.5
        axes.plot(
            x,
            y,
            color=ORANGE if place < best else GREY,
            alpha=shade,
            linewidth=1.6 if place < best else 0.6,
        )
    for position, (_, parameter) in enumerate(space.parameters.items()):
        axes.axvline(position, color="#666666", linewidth=0.8)
        if parameter.choice:
            for value in parameter.choice:
                axes.annotate(
                    shorten(f"{value}", 14), (position, parameter.share_of(value)), fontsize=7
                )
        else:
            low, high = parameter.bounds
            axes.annotate(f"{low:.3g}", (position, -0.06), fontsize=7, ha="center")
            axes.annotate(f"{high:.3g}", (position, 1.03), fontsize=7, ha="center")
    axes.set(ylim=(-0.1, 1.1), yticks=[], xticks=range(len(keys)))
    axes.set_xticklabels([shorten(key, NAME_LENGTH) for key in keys], fontsize=8, rotation=15)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    return figure_png(figure)


def importance_png(shares: Mapping[str, float]) -> bytes:
    ordered = sorted(shares.items(), key=lambda item: item[1])
    figure = new_figure(0.9 + 0.32 * len(ordered))
    axes = axes_at(figure, 2.6, 0.2, 6.0, 0.32 * len(ordered))
    axes.barh(
        [shorten(key, NAME_LENGTH) for key, _ in ordered],
        [share for _, share in ordered],
        color=BLUE,
    )
    name_axes(axes, "share of the variance")
    return figure_png(figure)


def gantt_png(holdings: Sequence[Holding], cards: Mapping[str, int]) -> bytes:
    """A bar for each time that a trial had a card, with the trial's number.

    Args:
        cards: their number by place.
    """
    rows = [(place, card) for place in sorted(cards) for card in range(cards[place])]
    left = 0.8 if len(cards) < 2 else 2.0
    figure = new_figure(1.0 + 0.34 * len(rows))
    axes = axes_at(figure, left, 0.2, 11.6 - left, 0.34 * len(rows))
    last = max((each.ended_s for each in holdings), default=0.0)
    for each in holdings:
        duration = each.ended_s - each.began_s
        for card in each.cards:
            row = rows.index((each.place, card))
            axes.barh(
                row, duration / 60, left=each.began_s / 60, height=0.8,
                color=TINTS[each.trial % len(TINTS)], edgecolor="white", linewidth=0.4,
            )  # fmt: skip
            if duration > last / 60:
                middle = (each.began_s + each.ended_s) / 120
                number = f"{each.trial}"
                axes.text(middle, row, number, fontsize=7, ha="center", va="center", color="white")
    axes.set(yticks=range(len(rows)), ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticklabels(
        [f"{card}" if len(cards) < 2 else f"{shorten(place, 20)}: {card}" for place, card in rows]
    )
    name_axes(axes, "minutes", "card")
    return figure_png(figure)
