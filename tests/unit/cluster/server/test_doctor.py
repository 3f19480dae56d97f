import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.unit.cluster.server.conftest import HCCN_TOOL, INFO, Program, StandIn, npu_smi, put
from unet_dist.cli import app
from unet_dist.cli.doctor import describe
from unet_dist.cluster.server import doctor_cards, doctor_host
from unet_dist.cluster.server.discover import CardAddress, see_cards
from unet_dist.cluster.server.doctor import Examination, examine, judge_chip
from unet_dist.cluster.server.finding import Finding, ok, run_checks, skip
from unet_dist.cluster.tables.model import Device, RankTable, Server

GIB = doctor_host.GIB
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 0100007F:1FB6 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0
   1: 020200C0:EA60 010200C0:0050 06 00000000:00000000 00:00000000 00000000     0
   2: 020200C0:EA61 010200C0:0050 01 00000000:00000000 00:00000000 00000000     0
"""
TABLE = {
    "version": "1.0",
    "status": "completed",
    "server_count": "1",
    "server_list": [
        {
            "server_id": "10.0.0.1",
            "device": [
                {"device_id": "4", "device_ip": "192.168.10.14", "rank_id": "0"},
                {"device_id": "5", "device_ip": "192.168.10.15", "rank_id": "1"},
            ],
        }
    ],
}


def verdicts(findings: Sequence[Finding]) -> dict[str, str]:
    return {finding.check: finding.verdict for finding in findings}


def only(findings: Sequence[Finding]) -> tuple[str, str]:
    [finding] = findings
    return finding.verdict, finding.fact


def test_a_check_that_hangs_does_not_hold_up_the_others() -> None:
    def stuck() -> list[Finding]:
        time.sleep(60)
        return []

    start = time.monotonic()
    checks = {"first": lambda: ok("first", ""), "stuck": stuck, "last": lambda: ok("last", "")}
    findings = run_checks(checks, limit_s=0.2)
    assert time.monotonic() - start < 30
    assert verdicts(findings) == {"first": "OK", "stuck": "SKIP", "last": "OK"}


def test_a_file_system_that_fails_is_a_check_that_could_not_see() -> None:
    def broken() -> list[Finding]:
        raise OSError(5, "Input/output error", "/runs")

    [finding] = run_checks({"disk": broken}, limit_s=5)
    assert (finding.verdict, finding.fact) == ("SKIP", "/runs: Input/output error")


@pytest.fixture
def server(stand_in: StandIn, root: Path) -> Path:
    """A server with cards 4 to 7, of which 5 is in use."""
    stand_in("npu-smi", npu_smi())
    stand_in("hccn_tool", HCCN_TOOL)
    put(
        root,
        {
            **{f"dev/davinci{card}": "" for card in (4, 5, 6, 7)},
            "usr/local/Ascend/driver/version.info": "Version=23.0.rc1\nascendhal_version=1\n",
            "usr/local/Ascend/ascend-toolkit/latest/ascend_toolkit_install.info":
                "package_name=Ascend-cann-toolkit\nversion=8.1.RC1\n",
            "proc/meminfo": "MemTotal: 9 kB\nMemAvailable:   33554432 kB\n",
            "proc/net/tcp": TCP,
            "proc/sys/net/ipv4/ip_local_port_range": "32768\t60999\n",
            "dev/shm/here": "",
        },
    )  # fmt: skip
    return root


def test_a_whole_server_with_its_table(server: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.json"
    table.write_text(json.dumps(TABLE))
    findings = {f.check: f for f in examine(Examination(rank_table=table, root=server,
                                                        environment={}))}  # fmt: skip
    assert "driver 23.0.rc1" in findings["driver"].fact
    assert findings["CANN"].verdict == "WARN"
    assert "CANN 8.1.RC1, but its environment is not set" in findings["CANN"].fact
    assert findings["cards"].fact == "4 x 910A, cards 4-7; physical=logical: 4=0, 5=1, 6=2, 7=3"
    assert findings["processes"].verdict == "FAIL"
    assert findings["processes"].fact == "card 5: python 55115"
    assert findings["addresses"].fact == "4 192.168.10.14, 5 192.168.10.15, as in the table"
    assert findings["links"].fact == "up on cards 4-5"
    assert findings["TLS"].verdict == "OK"
    assert findings["chip"].verdict == "WARN"  # the stand-ins have all addresses in one subnet
    assert findings["table"].verdict == "OK"
    assert findings["memory"].fact == "memory: 32.0 GiB free"
    assert findings["ports"].verdict == "FAIL"
    assert findings["ports"].fact == "in use: 8118, 60001"


def test_a_table_of_other_cards_and_addresses_fails(server: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.json"
    text = json.dumps(TABLE).replace('"4"', '"3"').replace("192.168.10.15", "10.9.9.9")
    table.write_text(text)
    findings = {f.check: f for f in examine(Examination(rank_table=table, root=server,
                                                        environment={}))}  # fmt: skip
    assert findings["cards"].fact == "the table wants card 3, but there are 4-7"
    assert findings["addresses"].verdict == "FAIL"
    assert "10.9.9.9, but the card has 192.168.10.15" in findings["addresses"].fact


def test_a_table_of_other_servers_or_none_at_all_fails(server: Path, tmp_path: Path) -> None:
    tables = Path(__file__).parents[4] / "rank_tables"
    stranger = examine(Examination(rank_table=tables / "2x8.json", root=server, environment={}))
    assert "this server is none of 10.0.0.1, 10.0.0.2" in str(stranger)
    assert verdicts(stranger)["table"] == "FAIL"
    [table] = [f for f in examine(Examination(rank_table=tmp_path / "no.json", root=server,
                                              environment={})) if f.check == "table"]  # fmt: skip
    assert table.fact == f"{tmp_path}/no.json: no such file"
    missing = examine(Examination(rank_table=tmp_path / "no.json", root=server, environment={}))
    assert verdicts(missing)["table"] == "FAIL"
    named = Examination(
        rank_table=tables / "2x8.json", server_id="10.0.0.2", root=server, environment={}
    )
    assert verdicts(examine(named))["table"] == "OK"


def test_what_cannot_be_seen_is_skipped_and_never_called_ok(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = verdicts(examine(Examination(root=root, environment={})))
    unseen = {name for name, verdict in found.items() if verdict == "SKIP"}
    assert unseen >= {
        "driver", "CANN", "cards", "processes", "addresses", "links", "TLS", "table", "memory",
        "ports",
    }  # fmt: skip


def test_a_machine_without_cards_is_neither_healthy_nor_sick(
    run_program: Program, tmp_path: Path
) -> None:
    bare = {"PATH": "/usr/bin:/bin"}
    if any(Path("/dev").glob("davinci*")) or Path("/etc/hccn.conf").exists():
        pytest.skip("this machine has cards")
    done = run_program("doctor", "--json", **bare)
    assert (done.returncode, json.loads(done.stdout)["healthy"]) == (0, None)
    done = run_program("doctor", **bare)
    assert done.stdout.rstrip().endswith("SKIP: nothing about cards could be checked here")


def test_a_server_without_cards_that_is_not_in_the_table_says_so(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    table = Path(__file__).parents[4] / "rank_tables/2x8.json"
    findings = examine(Examination(rank_table=table, root=root, environment={}))
    facts = {finding.check: finding.fact for finding in findings}
    assert {facts[name] for name in ("addresses", "links", "TLS")} == {
        "this server is not in the table"
    }


def test_a_table_that_only_a_chip_refuses_is_not_said_to_fit_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    tree = json.loads(json.dumps(TABLE))
    third = {"device_id": "6", "device_ip": "192.168.10.16", "rank_id": "2"}
    tree["server_list"][0]["device"].append(third)  # a 910A works with 1, 2, 4 or 8
    (tmp_path / "t.json").write_text(json.dumps(tree))
    findings = examine(Examination(rank_table=tmp_path / "t.json", root=root, environment={}))
    [table] = [finding for finding in findings if finding.check == "table"]
    assert table.verdict == "OK"
    assert table.fact.endswith("not checked for a chip here: see chip")


def test_programs_that_hang_do_not_hold_up_the_others(stand_in: StandIn, tmp_path: Path) -> None:
    for name in ("npu-smi", "hccn_tool"):
        stand_in(name, "sleep 60\n")
    (tmp_path / "t.json").write_text(json.dumps(TABLE))
    start = time.monotonic()
    command = [sys.executable, "-m", "unet_dist", "doctor", "--rank-table", "t.json", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert time.monotonic() - start < 30
    found = {f["check"]: f for f in json.loads(done.stdout)["findings"]}
    assert found["cards"]["verdict"] == "WARN"
    assert "npu-smi info gave no answer in " in found["cards"]["fact"]
    assert {found[name]["verdict"] for name in ("processes", "addresses", "links", "TLS")} == {
        "SKIP"
    }


def test_the_exit_code_says_whether_a_check_failed(
    run_program: Program, stand_in: StandIn, tmp_path: Path
) -> None:
    stand_in("npu-smi", npu_smi(INFO.replace("| OK  ", "| Alarm")))
    done = run_program("doctor")
    assert done.returncode == 1
    assert "FAIL  cards          health: 4 Alarm, 5 Alarm" in done.stdout
    stand_in("npu-smi", npu_smi())
    done = run_program("doctor", "--run", tmp_path / "runs/new", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["healthy"]) == (0, True)
    assert sum(report["counts"].values()) == len(report["findings"])


def test_help_shows_examples() -> None:
    done = CliRunner().invoke(app, ["doctor", "--help"])
    assert "unet-dist doctor --rank-table cluster.json --run runs/chase --json" in done.stdout


@given(st.text())
def test_no_output_of_npu_smi_is_taken_for_a_healthy_card(text: str) -> None:
    from unet_dist.cluster.server.discover import CardsSeen, join_cards
    from unet_dist.cluster.server.npu_smi import parse_info, parse_map

    overview = parse_info(text)
    seen = CardsSeen(cards=join_cards(parse_map(text), overview.chips, ()), overview=overview)
    [finding] = doctor_cards.judge_cards(seen, ())
    assert finding.verdict in ("WARN", "FAIL") or seen.cards


def test_processes_are_not_judged_without_their_table(stand_in: StandIn, root: Path) -> None:
    stand_in("npu-smi", npu_smi(INFO.partition("| NPU     Chip")[0]))
    verdict, fact = only(doctor_cards.judge_processes(see_cards(root), ()))
    assert (verdict, fact) == ("SKIP", "npu-smi info shows no process table")
    stand_in("npu-smi", npu_smi())
    assert only(doctor_cards.judge_processes(see_cards(root), ()))[0] == "WARN"
    assert only(doctor_cards.judge_processes(see_cards(root), (4,)))[0] == "WARN"
    assert only(doctor_cards.judge_processes(see_cards(root), (4, 5)))[0] == "FAIL"


def test_links() -> None:
    up, down = ("UP", "Success", ""), ("DOWN", "Fault", "")
    assert only(doctor_cards.judge_links({0: up, 1: up}, True)) == ("OK", "up on cards 0-1")
    assert only(doctor_cards.judge_links({0: up, 1: down}, True)) == (
        "FAIL",
        "card 1 link DOWN, net health Fault",
    )
    assert only(doctor_cards.judge_links({0: up, 1: down}, False))[0] == "WARN"
    assert only(doctor_cards.judge_links({0: ("", "", "no tool")}, True)) == ("SKIP", "no tool")
    assert "net health not seen" in only(doctor_cards.judge_links({0: ("UP", "", "")}, True))[1]


def test_a_table_is_judged_by_the_chip_that_is_here() -> None:
    devices = tuple(
        Device(device_id=card, rank=rank, ip=f"192.168.{card % 4}.{10 + card // 4}")
        for rank, card in enumerate((0, 4))
    )
    table = RankTable(dialect="1.0", servers=(Server(server_id="10.0.0.1", devices=devices),))
    assert only(judge_chip(table, ["910A", "910A"]))[0] == "FAIL"  # of two rings
    assert only(judge_chip(table, ["910B2"])) == ("OK", "the table keeps the rules of 910B")
    assert only(judge_chip(table, [])) == (
        "SKIP",
        "no card found, so it is not known which chip's rules apply",
    )


def test_tls_switches_must_be_alike() -> None:
    assert only(doctor_cards.judge_tls({0: (True, ""), 1: (True, "")}))[0] == "OK"
    assert only(doctor_cards.judge_tls({0: (True, ""), 1: (False, "")})) == (
        "FAIL",
        "on for cards 0, off for 1",
    )
    assert only(doctor_cards.judge_tls({0: (True, ""), 1: (None, "slow")}))[0] == "WARN"
    assert only(doctor_cards.judge_tls({0: (None, "slow")})) == ("SKIP", "slow")


def test_addresses_without_a_table() -> None:
    def judged(*ips: str) -> str:
        addresses = {i: CardAddress(from_tool=(ip,) if ip else (), fault="" if ip else "none")
                     for i, ip in enumerate(ips)}  # fmt: skip
        return only(doctor_cards.judge_card_addresses(addresses, None, ()))[0]

    assert judged("10.0.0.1", "10.0.0.2") == "OK"
    assert judged("10.0.0.1", "10.0.0.1") == "FAIL"
    assert judged("10.0.0.1", "") == "WARN"
    assert judged("", "") == "SKIP"


@pytest.mark.parametrize(
    ("environment", "verdict", "fact"),
    [
        ({}, "OK", "none is set by hand"),
        ({"HCCL_CONNECT_TIMEOUT": "600"}, "OK", "HCCL_CONNECT_TIMEOUT=600"),
        ({"HCCL_CONNECT_TIMEOUT": "60"}, "FAIL", "from 120 to 7200"),
        ({"HCCL_CONNECT_TIMEOUT": "ten"}, "FAIL", "is not a number of seconds"),
        ({"HCCL_EXEC_TIMEOUT": "1836"}, "OK", "HCCL_EXEC_TIMEOUT=1836"),  # 27 x 68
        ({"HCCL_EXEC_TIMEOUT": "1800"}, "WARN", "rounds it down to 1768"),  # 26 x 68
        ({"HCCL_EXEC_TIMEOUT": "20000"}, "WARN", "17340 at most"),
        ({"MS_CPU_COMM_OP_TIMEOUT": "30"}, "WARN", "may take longer"),
    ],
)
def test_time_limits_of_the_environment(
    environment: dict[str, str], verdict: str, fact: str
) -> None:
    [finding] = doctor_host.judge_time_limits(environment)
    assert finding.verdict == verdict
    assert fact in finding.fact


def test_ports_in_use_by_state_and_family() -> None:
    assert doctor_host.parse_ports(TCP) == {8118, 60001}  # 60000 only waits for its end


@given(st.text())
def test_no_text_of_the_kernel_makes_a_parser_fail(text: str) -> None:
    doctor_host.parse_ports(text)
    doctor_host.parse_spans(text)
    doctor_cards.parse_version(text)


def test_ports_that_the_system_may_give_away() -> None:
    ephemeral, reserved = range(32768, 61000), [range(60000, 60032)]

    def judged(used: set[int], held: list[range], *, cards: bool) -> str:
        found = doctor_host.judge_ports(
            used, base=60000, ephemeral=ephemeral, reserved=held, uses_cards=cards
        )
        return only(found)[0]

    assert judged(set(), reserved, cards=True) == "OK"
    assert judged(set(), [], cards=True) == "WARN"
    assert judged(set(), [], cards=False) == "OK"
    assert judged({60031}, reserved, cards=True) == "FAIL"
    assert judged({60031}, reserved, cards=False) == "WARN"
    assert judged({60032}, reserved, cards=True) == "OK"
    assert judged({8118}, reserved, cards=True) == "WARN"


def test_space_that_is_left() -> None:
    assert only(doctor_host.judge_space("disk", "/", GIB // 2, GIB, 10 * GIB))[0] == "FAIL"
    assert only(doctor_host.judge_space("disk", "/", 5 * GIB, GIB, 10 * GIB)) == (
        "WARN",
        "/: 5.0 GiB free",
    )
    assert only(doctor_host.judge_space("disk", "/", 10 * GIB, GIB, 10 * GIB))[0] == "OK"


def test_memory_of_a_container_that_is_limited(root: Path) -> None:
    put(
        root,
        {
            "proc/meminfo": "MemAvailable: 33554432 kB\n",
            "sys/fs/cgroup/memory.max": f"{8 * GIB}\n",
            "sys/fs/cgroup/memory.current": f"{6 * GIB}\n",
        },
    )
    assert only(doctor_host.check_memory(root)) == ("WARN", "memory: 2.0 GiB free")
    put(root, {"sys/fs/cgroup/memory.max": "max\n"})
    assert only(doctor_host.check_memory(root)) == ("OK", "memory: 32.0 GiB free")


def test_disk_of_a_run_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    _, fact = only(doctor_host.check_disk(tmp_path / "runs" / "new"))
    assert fact.startswith(f"{tmp_path}: ")


def test_versions_are_compared_with_what_the_package_asks_for() -> None:
    rules = ["mindspore<2.11,>=2.10", "numpy>=2.0", "pytest>=8; extra == 'dev'"]
    assert only(doctor_host.judge_versions({"mindspore": "2.10.0", "numpy": "2.4.6"}, rules))[
        0
    ] == "OK"  # fmt: skip
    [old] = doctor_host.judge_versions({"mindspore": "2.9.0", "numpy": ""}, rules)
    assert old.verdict == "FAIL"
    assert old.fix == "pip install 'mindspore<2.11,>=2.10' 'numpy>=2.0'"


def test_the_installed_versions_are_those_asked_for() -> None:
    assert only(doctor_host.check_versions())[0] == "OK"


def test_limits_of_the_shell() -> None:
    assert only(doctor_host.judge_limits({"open files (-n)": 1024})) == (
        "WARN",
        "low: open files (-n) 1024",
    )
    assert only(doctor_host.judge_limits({"open files (-n)": None}))[0] == "OK"


def test_avx512_is_fine_unless_the_user_lets_it_loose() -> None:
    flags = frozenset({"avx2", "avx512f"})
    assert only(doctor_host.judge_cpu(flags, {}))[0] == "OK"
    loose = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
    assert only(doctor_host.judge_cpu(flags, loose))[0] == "WARN"
    assert only(doctor_host.judge_cpu(frozenset({"avx2"}), loose))[0] == "OK"


def test_cann_is_wanted_where_there_is_a_driver(root: Path) -> None:
    assert only(doctor_cards.check_cann(root, {}))[0] == "SKIP"
    put(root, {"usr/local/Ascend/driver/version.info": "Version=24.1.rc2\n"})
    assert only(doctor_cards.check_cann(root, {}))[0] == "FAIL"
    put(root, {"opt/cann/ascend_toolkit_install.info": "version=8.1.RC1\n"})
    home = {"ASCEND_HOME_PATH": str(root / "opt/cann")}
    assert only(doctor_cards.check_cann(root, home)) == ("OK", "CANN 8.1.RC1")


def test_the_report_has_columns_and_the_cure_below_the_fact() -> None:
    bad = Finding(check="memory", verdict="FAIL", fact="none", fix="buy some")
    text = describe([*ok("disk", "fine"), bad, *skip("TLS", "no tool")])
    assert text.splitlines() == [
        "OK    disk    fine",
        "FAIL  memory  none",
        "              -> buy some",
        "SKIP  TLS     no tool",
        "1 FAIL, 0 WARN, 1 OK, 1 SKIP",
    ]


def test_mpirun_that_does_not_work_fails(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = stand_in("mpirun", "echo no PMIx >&2; exit 1\n")
    monkeypatch.setattr(doctor_host, "find_mpirun", lambda: str(program))
    assert only(doctor_host.check_mpirun(5)) == (
        "FAIL",
        "mpirun -n 1 true ended with 1 and said: no PMIx",
    )
