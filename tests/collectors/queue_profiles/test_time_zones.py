"""Our own time zone changes nothing of what a file says: the suite of the real files passes under others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.patience import LONGEST_WAIT

HERE = Path(__file__).parent
CHOSEN = "counted or told_apart or local_times or survives"


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
def test_files_say_the_same_wherever_we_are(zone: str) -> None:
    """Also the writing process runs there, as an application beside us does."""
    asked = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", CHOSEN,
         *(str(HERE / f"{name}.py") for name in ("test_profile_schema", "test_real_queue_files", "test_shipped_profiles"))],
        env={**os.environ, "TZ": zone}, cwd=HERE.parents[2], capture_output=True, text=True, timeout=LONGEST_WAIT, check=False,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stdout[-3000:]
    passed = int(asked.stdout.rsplit(" passed", 1)[0].split()[-1])
    assert passed >= 18, asked.stdout[-500:]
