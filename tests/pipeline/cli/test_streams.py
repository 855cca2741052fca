"""Standard streams that are closed: the command works, and no file of its own takes their place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("closed", ["0<&-", ">&-", "2>&-", "0<&- >&- 2>&-"])
def test_closed_streams_end_nothing_and_are_no_file_s(tmp_path: Path, closed: str) -> None:
    code = (
        "import os, sys; from pathlib import Path; from twinlines.pipeline.cli import console, streams\n"
        "streams.prepare()\n"
        "with Path(sys.argv[1]).open('w') as file:\n"
        "    file.write(str(file.fileno()))\n"
        "    os.write(1, b'library')\n"
        "    with console.progress() as progress: progress('scan', 1, 1)\n"
        "    console.show({'rows': 3}, False, lambda screen: screen.print('3 rows'))\n"
    )
    file = tmp_path / "file"
    command = f'exec "$0" -c "$1" "$2" {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable, code, str(file)], capture_output=True, check=False)
    assert done.returncode == 0
    assert int(file.read_text()) > 2
