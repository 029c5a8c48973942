"""Rules of the house: who imports whom, how long files are, one name for one thing."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "src" / "dsaflow"
MODULES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted((REPOSITORY / "scripts").glob("*.py"))
RULE_FILES = sorted((REPOSITORY / "rules").glob("*.smk"))
SNAKEFILE = REPOSITORY / "Snakefile"

STAGES = {
    "calibration",
    "imaging",
    "mosaic",
    "photometry",
    "planning",
    "publish",
    "qa",
    "report",
    "variability",
    "visibilities",
}
# What a stage may use of another: formats that one writes and the other reads, nothing else.
ALLOWED = {
    "calibration": {"visibilities"},
    "imaging": {"visibilities"},
    "photometry": {"mosaic"},
}
# The modules that are such a format.
FORMATS = {"visibilities": {"container", "ms", "flagfile"}, "mosaic": {"local"}}

# Packages that know the forward model and the pipeline, to score the one by the other.
REFEREES = ("characterise", "validation")


def name_of(path: Path) -> str:
    """Dotted name of a module of the package, without the leading ``dsaflow.``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


@cache
def imports(path: Path) -> set[str]:
    """Every module that a file imports, also inside functions, with names as ``module.name``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module or ""} | {f"{node.module}.{a.name}" for a in node.names}
    return found


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def stage_of(module: str) -> str | None:
    head = module.split(".")[0]
    return head if head in STAGES else None


def ids(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_only_runs_imports_snakemake(path):
    if name_of(path).split(".")[0] == "runs":
        return
    assert not [m for m in imports(path) if m.split(".")[0].startswith("snakemake")]


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_truth_is_independent(path):
    mine = name_of(path)
    used = {m.removeprefix("dsaflow.") for m in imports(path) if within(m, "dsaflow")}
    if within(mine, "simulate"):
        shared = {"instrument", "geometry", "catalog", "transit", *STAGES}
        assert not [m for m in used if m.split(".")[0] in shared]
    elif within(mine, "cli"):
        assert {m for m in used if within(m, "simulate")} <= {
            "simulate.night",
            "simulate.night.run",
        }
    elif mine.split(".")[0] in REFEREES:
        return  # a referee knows both sides; who may import it: test_nobody_imports_a_referee
    elif within(mine, "config"):
        settings = {m for m in used if within(m, "simulate")}
        assert all(within(m, "simulate.settings") for m in settings)
    else:
        assert not [m for m in used if within(m, "simulate")]


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_stages_do_not_import_one_another(path):
    mine = stage_of(name_of(path))
    if mine is None:
        return
    used = {m.removeprefix("dsaflow.") for m in imports(path) if within(m, "dsaflow")}
    for module in used:
        other = stage_of(module)
        if other is None or other == mine:
            continue
        assert other in ALLOWED.get(mine, set()), f"{mine} imports {module}"
        part = module.split(".")[1:2]
        assert not part or part[0] in FORMATS[other], f"{mine} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_shared_modules_import_no_stage(path):
    mine = name_of(path)
    if stage_of(mine) or mine.split(".")[0] in ("cli", "demo", "runs", "api", *REFEREES):
        return
    used = {m.removeprefix("dsaflow.") for m in imports(path) if within(m, "dsaflow")}
    assert not [m for m in used if stage_of(m)]


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_nobody_imports_a_referee(path):
    mine = name_of(path).split(".")[0]
    if mine == "cli":
        return
    others = [referee for referee in REFEREES if referee != mine]
    assert not [m for m in imports(path) if any(within(m, f"dsaflow.{r}") for r in others)]


# Who stands above whom: nothing imports what is above it, nor what is beside it.
ABOVE_SCIENCE = ["runs", "api", "cli"]


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_imports_point_one_way(path):
    used = {m.removeprefix("dsaflow.") for m in imports(path) if within(m, "dsaflow")}
    mine = name_of(path).split(".")[0]
    below = ABOVE_SCIENCE[: ABOVE_SCIENCE.index(mine)] if mine in ABOVE_SCIENCE else []
    forbidden = set(ABOVE_SCIENCE) - {mine, *below}
    assert not [m for m in used if m.split(".")[0] in forbidden]


@pytest.mark.parametrize(
    ("paths", "limit"),
    [(MODULES, 399), (SCRIPTS, 40), (RULE_FILES, 150), ([SNAKEFILE], 80)],
    ids=["src", "scripts", "rules", "Snakefile"],
)
def test_files_are_short(paths, limit):
    lengths = {ids(p): len(p.read_text().splitlines()) for p in paths}
    assert not {name: n for name, n in lengths.items() if n > limit}


def blocks(path: Path) -> dict[str, str]:
    """Text of each rule of a file, by its name."""
    parts = re.split(r"^(?:rule|checkpoint) (\w+):\n", path.read_text(), flags=re.MULTILINE)
    return {
        name: re.split(r"^\S", body, maxsplit=1, flags=re.MULTILINE)[0]
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


RULES = [(p, name) for p in [SNAKEFILE, *RULE_FILES] for name in blocks(p)]
SCRIPTED = [(p, name) for p, name in RULES if "script:" in blocks(p)[name]]


@pytest.mark.parametrize(("path", "name"), SCRIPTED, ids=lambda v: v if isinstance(v, str) else "")
def test_rule_script_log_and_benchmark_share_one_name(path, name):
    body = blocks(path)[name]
    assert re.search(r'script:\s+"([^"]*)"', body)[1] == f"../scripts/{name}.py"
    assert (REPOSITORY / "scripts" / f"{name}.py").exists()
    assert re.search(r'log:\s+f?"([^"]*)"', body)[1].startswith(f"<logs>/{name}/")
    assert re.search(r'benchmark:\s+f?"([^"]*)"', body)[1].startswith(f"<benchmarks>/{name}/")


def test_every_script_has_its_rule():
    assert {p.stem for p in SCRIPTS} - {"create_mosaic_centered"} == {name for _, name in SCRIPTED}


@pytest.mark.parametrize(("path", "name"), RULES, ids=lambda v: v if isinstance(v, str) else "")
def test_rule_says_what_it_does_and_names_no_resource(path, name):
    body = blocks(path)[name]
    assert re.match(r'\s+"""[A-Z].*\.', body), "a rule starts with one sentence"
    assert not re.search(
        r"^    (threads|resources|retries|priority|run|shell):", body, re.MULTILINE
    )
    assert not re.search(r"mem_mb|mem_mib|runtime|partition|\bcores\b", body)


@pytest.mark.parametrize(("path", "name"), SCRIPTED, ids=lambda v: v if isinstance(v, str) else "")
def test_conda_file_of_a_rule_exists(path, name):
    file = re.search(r'conda:\s+"\.\./(envs/[^"]+)"', blocks(path)[name])[1]
    assert (REPOSITORY / file).exists()


def test_resources_of_the_profiles_name_real_rules():
    names = {name for _, name in RULES}
    for file in (REPOSITORY / "profiles").glob("*/config.yaml"):
        profile = yaml.safe_load(file.read_text())
        for key in ("set-resources", "set-threads"):
            assert set(profile.get(key, {})) <= names, f"{file.parent.name}: {key}"


def run(*command: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        **kwargs,
    )


def test_snakemake_lint_is_clean(tmp_path):
    (tmp_path / "incoming").mkdir()
    done = run(
        "snakemake",
        "--lint",
        "--snakefile",
        str(SNAKEFILE),
        "--directory",
        str(REPOSITORY),
        "--configfile",
        str(configuration(tmp_path)),
    )
    assert done.returncode == 0, done.stdout + done.stderr


def configuration(folder: Path) -> Path:
    """Write a configuration whose folders all lie in `folder`."""
    names = ("incoming", "results", "published")
    file = folder / "folders.yaml"
    file.write_text(yaml.safe_dump({"paths": {name: str(folder / name) for name in names}}))
    return file


def tracked() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [REPOSITORY / name for name in done.stdout.split("\0") if name]


def test_no_machine_path_and_no_registry_host_is_tracked():
    # built from pieces so that this file does not contain them
    places = "|".join(
        ("wo" + "rk", "ro" + "ot", "fa" + "rm", "ho" + "me", "tm" + "p", "Us" + "ers")
    )
    hosts = "|".join(
        (
            "py" + r"pi\.org",
            "python" + "hosted",
            "npm" + "js",
            "debian" + r"\.org",
            "conda" + r"\.io",
        )
    )
    pattern = re.compile(rf"(?:^|[^A-Za-z0-9._~}}-])/(?:{places})/|{hosts}")
    found = []
    for path in tracked():
        if not path.is_file():
            continue
        content = path.read_bytes()
        if b"\0" in content[:8192]:
            continue
        for number, line in enumerate(content.decode().splitlines(), 1):
            if pattern.search(line):
                found.append(f"{ids(path)}:{number}: {line.strip()[:80]}")
    assert not found, "\n".join(found)


def test_tracked_files_are_small():
    assert not [ids(p) for p in tracked() if p.is_file() and p.stat().st_size > 500_000]
