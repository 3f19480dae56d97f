import sys

import pytest

import unet_dist
from unet_dist.__main__ import main


class Interrupted:
    """Ctrl-C while a module is looked for."""

    def find_spec(self, name: str, *rest: object) -> None:
        if name == "unet_dist.cli":
            raise KeyboardInterrupt


def test_an_interrupt_during_the_imports_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "unet_dist.cli", raising=False)
    monkeypatch.delattr(unet_dist, "cli", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
