"""Records `run/`, a real run folder without checkpoints and report, which tables and pages are tested on.

Command: python tests/recorded/make.py (from the root of the repository; less than two minutes on 2 cores)
One machine gives the same bytes every time. After a change of how a step rounds, or on another processor, AUROCs of a
dozen images may differ by .3: record it anew then.
"""

import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).parent

if __name__ == "__main__":
    shutil.rmtree(HERE / "run")
    line = [sys.executable, "-m", "flipjax.sweep", "--config", "config.py", "--workdir", "run"]
    subprocess.run(line, cwd=HERE, check=True)
    for name in ("checkpoints", "report", "images.parquet"):
        path = HERE / "run" / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
