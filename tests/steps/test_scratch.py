"""What a killed planner left behind goes; what another one is using stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from planner.steps.scratch import remove_abandoned, scratch_folder

PREFIX = "infopt-plan-"
HOLD = (
    "import sys, time; from pathlib import Path; from planner.steps.scratch import scratch_folder\n"
    f"with scratch_folder(Path(sys.argv[1]), '{PREFIX}') as folder:\n"
    "    (folder / 'part').write_text('x'); print(folder, flush=True); time.sleep(60)\n"
)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_goes_with_its_block(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, PREFIX) as folder:
        assert folder.parent == tmp_path
    assert _names(tmp_path) == []


def test_a_killed_planners_folder_goes_once_nobody_holds_it(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        held = Path(other.stdout.readline().strip())
        with scratch_folder(tmp_path, PREFIX):
            assert (held / "part").exists()
        other.send_signal(signal.SIGKILL)
    assert _names(tmp_path) == [held.name]
    with scratch_folder(tmp_path, PREFIX) as ours:
        assert _names(tmp_path) == [ours.name]


def test_only_old_folders_of_that_prefix_are_removed_without_a_lock(tmp_path: Path) -> None:
    for name in (f"{PREFIX}new", f"{PREFIX}old", "infopt-measure-old"):
        (tmp_path / name).mkdir()
    past = time.time() - 3600
    for name in (f"{PREFIX}old", "infopt-measure-old"):
        os.utime(tmp_path / name, (past, past))
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "infopt-measure-old")
    remove_abandoned(tmp_path, PREFIX)
    assert _names(tmp_path) == ["infopt-measure-old", f"{PREFIX}link", f"{PREFIX}new"]


def test_a_folder_that_cannot_be_listed_is_left_alone(tmp_path: Path) -> None:
    remove_abandoned(tmp_path / "nowhere", PREFIX)
