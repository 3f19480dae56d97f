import json
import re
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from tests.unit.profiling.made import MS, profile_of
from unet_dist.cli import app
from unet_dist.profiling.advice import LEAST_SHARE
from unet_dist.profiling.analysis import analyse
from unet_dist.profiling.intervals import NOTHING, merged, of_pairs
from unet_dist.profiling.tables import RankProfile
from unet_dist.profiling.write import write_text_folder
from unet_dist.report.profile import profile_html


def rules(analysis):
    return [one.rule for one in analysis.advice]


def test_the_parts_are_those_of_the_made_step():
    analysis = analyse([profile_of(rank) for rank in range(2)])
    ms = {name: value / MS for name, value in analysis.parts.items() if value}
    assert ms == {
        "step": 100, "computing": 60, "transfer": 10, "data": 10, "preparing": 5, "free": 10,
        "unattributed": 5, "overlapped": 10,
    }  # fmt: skip
    assert analysis.verdict.startswith("A step takes 100.0 ms on 2 ranks: 60% computing")


def test_a_late_rank_is_named_first():
    profiles = [profile_of(rank, late_ns=4 * MS * (rank == 2), steps=10) for rank in range(4)]
    analysis = analyse(
        [p if p.rank != 2 else profile_of(2, late_ns=12 * MS, steps=10) for p in profiles]
    )
    [late] = analysis.stragglers
    assert late.rank == 2
    assert late.cost_ns == pytest.approx(12 * MS, rel=0.01)
    assert "late_rank" in rules(analysis)


def test_slow_data_is_the_first_advice():
    slow = [
        profile_of(
            rank,
            data_waits=merged(
                of_pairs((s.begin_ns, s.begin_ns + 15 * MS) for s in profile_of().steps)
            ),
        )
        for rank in range(2)
    ]
    assert rules(analyse(slow))[0] == "data"


def test_what_is_worth_less_than_3_percent_is_not_advised():
    busy = profile_of(
        data_waits=NOTHING,
        communicating=NOTHING, collectives=(), transferring=NOTHING, awaiting=NOTHING,
        computing=merged(of_pairs((s.begin_ns, s.end_ns - 2 * MS) for s in profile_of().steps)),
        kernels=None, transfers=(), memory=(),
    )  # fmt: skip
    analysis = analyse([busy])
    assert analysis.advice == ()
    assert LEAST_SHARE == 0.03
    assert "Nothing was found whose change would gain 3 %" in analysis.verdict


def test_the_same_profiles_give_the_same_bytes():
    profiles = [profile_of(rank) for rank in range(2)]
    pages = [profile_html(analyse(profiles), profiles) for _ in range(2)]
    assert pages[0] == pages[1]
    assert not re.search(r"(src|href)=\"(?!data:)", pages[0])
    told = [json.dumps(analyse(profiles).to_json(), allow_nan=False) for _ in range(2)]
    assert told[0] == told[1]


def test_the_page_holds_ranks_against_each_other():
    """Of 40 ranks the one that is late is among the 32 and the 8 that are shown."""
    late_ns = [12 * MS if rank == 38 else 0 for rank in range(40)]
    profiles = [profile_of(rank, late_ns=ns, steps=10) for rank, ns in enumerate(late_ns)]
    page = profile_html(analyse(profiles), profiles)
    assert "32 of 40 ranks are shown." in page
    assert "8 of 40 ranks are shown." in page
    bars = re.findall(r'<div class="bar">.*', page)
    assert len(bars) == 32
    # Steps of 100 ms, all as long as the longest: what each holds adds up to all of its bar.
    for bar in bars:
        assert sum(map(float, re.findall(r"width:([\d.]+)%", bar))) == pytest.approx(100, abs=0.01)
    assert "rank 38 late" in bars[-1]
    assert sum("late</span>" in bar for bar in bars) == 1
    assert 'width:60.000%;background:#0072B2" title="computing: 60.00 ms"' in bars[0]


def test_the_page_shortens_names_and_has_no_column_that_says_nothing():
    long = "64,3,11,11;" * 500
    kernels = profile_of().kernels
    texts = tuple(long if text == "4,8,256,256" else text for text in kernels.texts)
    profile = replace(profile_of(), kernels=replace(kernels, texts=texts))
    page = profile_html(analyse([profile]), [profile])
    assert "64,3,11,11;" * 5 in page
    assert long not in page
    assert "busy pipe" in page  # the made profile has counters, and no shapes of outputs
    assert "roofline" not in page
    assert "GB/s</th>" not in page


def test_communication_that_nothing_divides_is_not_passed_over():
    """20 ms of a step; a rank alone of a job of four."""
    bare = replace(
        profile_of(), transferring=NOTHING, awaiting=NOTHING, transfers=(), world=4,
        collectives=tuple(replace(c, transfer_ns=None, wait_ns=None)
                          for c in profile_of().collectives),
    )  # fmt: skip
    [advice] = [one for one in analyse([bare]).advice if one.rule == "undivided"]
    exposed = analyse([bare]).parts["late"]
    assert advice.gain_ns == exposed == 10 * MS
    assert "undivided" not in rules(analyse([profile_of()]))


def test_idling_that_a_table_does_not_explain_is_told_after_the_late_rank():
    """As in the table of eight real ranks (milliseconds)."""
    exposed = [683.7, 133.4, 530.3, 265.6, 478.5, 756.4, 244.1, 539.0]
    profiles = [
        RankProfile(
            rank=rank, source="", format="cluster table", has_timeline=False,
            told_steps={0: {"Computing": 80e3, "Communication(Not Overlapped)": ms * 1e3,
                            "Free": (1620 - ms) * 1e3}},
        )
        for rank, ms in enumerate(exposed)
    ]  # fmt: skip
    found = analyse(profiles)
    assert rules(found) == ["late_rank", "untold_idle"]
    assert "First of all: rank 1 makes the others wait (host)" in found.verdict
    assert found.advice[1].gain_text(1.0) == ""


def test_the_command_tells_writes_and_exits_by_what_it_could_read(tmp_path):
    for rank in range(2):
        write_text_folder(tmp_path / f"rank{rank}_ascend_ms", profile_of(rank))
    out = tmp_path / "out"
    command = [
        "profile",
        "analyze",
        str(tmp_path),
        "--csv",
        str(out),
        "--html",
        str(out / "p.html"),
    ]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "60% computing" in done.output
    assert sorted(path.name for path in out.iterdir()) == [
        "collectives.csv", "kernels.csv", "p.html", "steps.csv",
    ]  # fmt: skip
    (tmp_path / "rank1_ascend_ms/ASCEND_PROFILER_OUTPUT/kernel_details.csv").unlink()
    done = CliRunner().invoke(app, ["profile", "analyze", str(tmp_path)])
    assert done.exit_code == 1
    assert "missing: rank 1: no kernel_details.csv" in done.output


def test_a_rank_whose_timeline_is_cut_off_does_not_speak_for_the_job():
    whole, cut = profile_of(0), replace(profile_of(1), computing=NOTHING, is_cut=True)
    assert analyse([whole, cut]).typical == 0
    assert analyse([replace(whole, computing=NOTHING, is_cut=True), profile_of(1)]).typical == 1
    assert analyse([cut]).typical == 1
