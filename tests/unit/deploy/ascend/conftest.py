"""The stand-ins and the command line of the tests of servers."""

from tests.unit.cluster.server.conftest import run_program, stand_in

__all__ = ["run_program", "stand_in"]
