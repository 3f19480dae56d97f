"""What is refused before a study begins, and where it begins."""

import re
from pathlib import Path

from unet_dist.runs import free_path, plain_name
from unet_dist.search.folder import StudyDir

VERBS = ("status", "stop", "report", "import")
SEARCHES = Path("searches")


def misplaced(
    target: str,
    words: list[str],
    base: str,
    resume: bool,
    run: Path | None,
    warm_start: list[str] | None,
    storage: str,
) -> list[str]:
    """Options that have no effect here."""
    if resume and Path(target).is_file():
        return [_how_to_resume(Path(target), run)]
    faults = []
    if words and (resume or "=" not in words[0]):
        why = "the study keeps its base" if resume else "KEY=VALUE is expected"
        verbs = ", ".join(VERBS)
        faults.append(f"{words[0]!r} after {target!r}: {why}; verbs are {verbs}")
    if base:
        faults.append("--base is for import; a search file names its own base")
    if resume:
        given = {"--run": run, "--warm-start": warm_start, "--storage": storage}
        faults += [
            f"--resume goes on in {target}; leave {option} out"
            for option, value in given.items()
            if value
        ]
    elif Path(target).is_dir():
        study = StudyDir(Path(target))
        what = f"a study; go on with {study.resume}" if study.is_study() else "a folder"
        faults.append(f"{target} is {what}")
    return faults


def _how_to_resume(file: Path, run: Path | None) -> str:
    """For the command that began a study with --resume behind it."""
    studies = [run] if run and StudyDir(run).is_study() else _begun(file)
    text = "--resume takes the folder of a study, which keeps all that it was begun with"
    if not studies:
        where = run or SEARCHES / plain_name(file.stem)
        return f"{text}; there is none in {where} yet: leave --resume out"
    return f"{text}: {' or '.join(StudyDir(study).resume for study in studies)}"


def _begun(file: Path) -> list[Path]:
    """The studies of a search file that were begun here without --run, the newest first."""
    name = re.compile(re.escape(plain_name(file.stem)) + r"(-\d+)?")
    found = [
        path
        for path in (SEARCHES.iterdir() if SEARCHES.is_dir() else ())
        if name.fullmatch(path.name) and StudyDir(path).is_study()
    ]
    return sorted(found, key=lambda path: StudyDir(path).spec.stat().st_mtime, reverse=True)


def place_of_new(file: Path, run: Path | None) -> tuple[Path, str]:
    """The folder of a new study, and what is told of studies of the same file."""
    if run:
        return run, ""
    path, begun = free_path(SEARCHES, file.stem), _begun(file)
    if not begun:
        return path, ""
    number = "a second study" if len(begun) == 1 else "another study"
    return path, (
        f"note: {begun[0]} exists, so this is {number}; to go on with the other: "
        f"{StudyDir(begun[0]).resume}"
    )
