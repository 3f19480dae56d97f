"""How long a search and its retraining took, in words: everywhere in the same unit."""

from unet_dist.search.trials import Study


def unit_of(seconds: float) -> tuple[float, str]:
    """What so long a time is told in, and its seconds."""
    return (3600.0, "hours") if seconds >= 2 * 3600 else (60.0, "minutes")


def spent_text(search: Study, again: Study | None) -> str:
    """For example ``12.0 minutes and 24.0 card-minutes of search, and 3.0 minutes and 6.0
    card-minutes of retraining``.

    Args:
        again: the study of the seeds; None, or without a trial, before it began.
    """
    studies = [search, *([again] if again and again.trials else [])]
    unit_s, unit = unit_of(max(study.clock_s for study in studies))
    texts = [
        f"{study.clock_s / unit_s:.1f} {unit} and {study.card_s / unit_s:.1f} card-{unit}"
        for study in studies
    ]
    if len(texts) > 1:
        return f"{texts[0]} of search, and {texts[1]} of retraining"
    return texts[0]
