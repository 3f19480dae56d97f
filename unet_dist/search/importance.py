"""Which settings mattered."""

from collections.abc import Mapping

from unet_dist.search.trials import Study

LEAST_TRIALS = 8


def importances(study: Study) -> Mapping[str, float]:
    """Share of the variance of the first objective that each key explains, by Optuna's fANOVA
    (Hutter et al., ICML 2014), at the lowest rung, where the most trials have a result. Empty if
    they are too few, or all alike."""
    import optuna

    from unet_dist.search.optuna_models import optuna_trials

    epochs = [trial.results[0].epoch for trial in study.trials if trial.results]
    if not epochs:
        return {}
    epoch = min(epochs)
    judged = [t for t in study.trials if t.result_at(epoch) is not None]
    costs = [study.ranking.costs(trial, epoch)[0] for trial in judged]
    points = [trial.params_at(epoch) for trial in judged]
    space = study.spec.searched
    # Of keys that only some trials have, the variance of all says nothing.
    keys = [key for key in space.parameters if all(key in point for point in points)]
    if len(judged) < LEAST_TRIALS or not keys or len(set(costs)) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    mirror = optuna.create_study(direction="minimize")
    mirror.add_trials(optuna_trials(space, (points, costs), []))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(mirror, evaluator=evaluator, params=keys)
