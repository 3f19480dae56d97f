"""The command line. Everything that is printed is printed in this package."""

import sys

from rich.console import Console

from unet_dist.cli import (
    compare,
    data,
    deploy,
    doctor,
    export,
    jobs,
    launch,
    predict,
    profile,
    quantize,
    rank_table,
    report,
    search,
)
from unet_dist.cli.shared import TakesKeys, new_app
from unet_dist.errors import EXIT_ASKED_WRONGLY, EXIT_INTERRUPTED, EXIT_JOB_FAILED, UserError

app = new_app("Distributed U-Net training for medical images on MindSpore and Ascend cards.")
app.command(cls=TakesKeys)(jobs.train)
app.command(name="eval")(jobs.evaluate)
app.command()(predict.predict)
app.command()(export.export)
app.command()(quantize.quantize)
app.command()(compare.compare)
app.command()(report.report)
app.command()(search.search)
app.command()(launch.launch)
app.command()(doctor.doctor)
app.add_typer(data.app, name="data")
app.add_typer(deploy.app, name="deploy")
app.add_typer(profile.app, name="profile")
app.add_typer(rank_table.app, name="rank-table")


def main() -> None:
    """Runs the program; exits with 0 done, 1 the job failed, 2 asked wrongly, 130 interrupted."""
    try:
        app(prog_name="unet-dist")
    except UserError as error:
        Console(stderr=True).print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(EXIT_ASKED_WRONGLY)
    except OSError as error:  # a full disk, a folder without permission
        Console(stderr=True).print(
            f"{error.filename or 'unet-dist'}: {error.strerror}", markup=False, soft_wrap=True
        )
        sys.exit(EXIT_JOB_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
