"""The control plane starts fast because it never loads MindSpore."""

import subprocess
import sys

CONTROL_PLANE = [
    "unet_dist.cli",
    "unet_dist.launching",
    "unet_dist.progress",
    "unet_dist.cluster.supervisor",
    "unet_dist.data.check",
    "unet_dist.data.convert.masks_to_edit",
    "unet_dist.data.convert.open",
    "unet_dist.data.synthetic",
    "unet_dist.deploy.bench",
    "unet_dist.deploy.predict",
    "unet_dist.evaluate.score",
    "unet_dist.profiling.analysis",
    "unet_dist.profiling.load",
    "unet_dist.profiling.predictions",
    "unet_dist.report.html",
    "unet_dist.report.pictures",
    "unet_dist.report.profile",
    "unet_dist.search.report",
    "unet_dist.search.study",
]


def test_the_control_plane_never_loads_mindspore_or_mpi() -> None:
    imports = "; ".join(f"import {module}" for module in CONTROL_PLANE)
    code = f"{imports}; import sys; print([m for m in ('mindspore', 'mpi4py') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_the_package_does_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import unet_dist; print(set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'unet_dist'}"
