"""The long counts behind docs/validation.md, by `make campaign`.

Each part is one command. What it printed goes to docs/campaign/PART.txt, headed by the command with its seeds, the
version and commit, and the machine. A part that is begun again computes no seed twice while its data are in `--work`.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from measuring import REPOSITORY, machine

from dsaflow import __version__

LOGS = REPOSITORY / "docs" / "campaign"


def parts(asked: argparse.Namespace, work: Path) -> dict[str, list[str]]:
    """Name and command of each part."""

    def validate(kind: str, number: int, *more: str) -> list[str]:
        seeds = [word for seed in range(1, number + 1) for word in ("--seed", str(seed))]
        folder = ["--folder", str(work / kind)]
        return [f"{BIN}/dsaflow", "validate", f"--{kind}", *folder, *more, *seeds]

    truth = ("--configfile", "config/truth.yaml")
    figure = ("--nights", "1", "--figure", "docs/images/ladder.png")
    pytest = [f"{BIN}/python", "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider"]
    return {
        "truth-table": validate("table", asked.skies, *truth),
        "ladder": validate("ladder", asked.ladder, *truth, *figure),
        "mutations": validate("mutations", asked.mutations),
        "kills": [*pytest, "tests/workflow/test_faults.py"],
        "characterise": [f"{BIN}/dsaflow", "ese", "characterise", "--out", str(work / "ese"),
                         "--seasons", str(asked.seasons), "--seed", "1"],
    }  # fmt: skip


def run(name: str, command: list[str], work: Path, kills: int) -> int:
    """Run one part and write its log; the command's exit code."""
    started, began = datetime.now(UTC), time.perf_counter()
    done = subprocess.run(
        command, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, check=False,
        env=os.environ | {"DSAFLOW_KILLS": str(kills)},
    )  # fmt: skip
    minutes = (time.perf_counter() - began) / 60
    head = {
        "part": name,
        "command": shlex.join(command).replace(f"{BIN}/", "")
        + (f"  # DSAFLOW_KILLS={kills}" if name == "kills" else ""),
        "begun": started.strftime("%Y-%m-%d %H:%M UTC"),
        "took": f"{minutes:.1f} min",
        "exit code": done.returncode,
        "version": f"{__version__}, commit {commit()}",
        "machine": machine(),
    }
    text = "".join(f"# {key}: {value}\n" for key, value in head.items())
    LOGS.mkdir(exist_ok=True)
    lines = done.stdout.splitlines()
    if "validate" in command:  # CLEAN's own lines are on the same stream
        lines = [line for line in lines if line.startswith(("|", "pulls wider"))]
    text += "".join(f"{line}\n" for line in lines)
    text = text.replace(f"{work}/", "campaign/").replace(f"{REPOSITORY}/", "")
    (LOGS / f"{name}.txt").write_text(text)
    print(text, flush=True)
    return done.returncode


def commit() -> str:
    """Commit of the code that runs, and whether it was changed since."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False
        ).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "src")
    return git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")


BIN = Path(sys.executable).parent

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skies", type=int, default=30, help="of the truth table")
    parser.add_argument("--ladder", type=int, default=2, help="skies of the ladder")
    parser.add_argument("--mutations", type=int, default=3, help="seeds of each mutation")
    parser.add_argument("--kills", type=int, default=20, help="moments at which a run is killed")
    parser.add_argument("--seasons", type=int, default=1_200_000, help="without event, to search")
    parser.add_argument("--only", action="append", help="parts to run")
    parser.add_argument("--work", type=Path, default=Path("campaign"), help="for the data")
    asked = parser.parse_args()
    work = asked.work.resolve()
    chosen = {
        name: command
        for name, command in parts(asked, work).items()
        if name in (asked.only or [name])
    }
    codes = {name: run(name, command, work, asked.kills) for name, command in chosen.items()}
    for name, code in codes.items():
        print(f"{name}: {'as asked' if code == 0 else f'exit code {code}'}")
    sys.exit(max(codes.values(), default=0))
