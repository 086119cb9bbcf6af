"""Who may import whom: zones S and W stay free of the coordinator's libraries, and the other way round."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from harness.names import ROOT

SHARED = [
    *(
        ROOT / "harness" / f"{name}.py"
        for name in ("spec", "recipe", "work", "metrics", "names", "wire", "errors", "checkpoint")
    ),
    *(ROOT / "suites/definitions").glob("*.py"),
]
WORKER = [
    path
    for folder in (
        "harness/worker", "suites/models", "suites/attention", "suites/pretraining", "suites/finetuning",
        "suites/kernels", "suites/ceilings",
    )
    for path in (ROOT / folder).glob("*.py")
]  # fmt: skip
COORDINATOR = [
    path
    for folder in ("harness", "harness/commands", "harness/traces", "suites/data", "reports/**")
    for path in ROOT.glob(f"{folder}/*.py")
    if path not in SHARED
]
MAY_IMPORT = {  # layer -> what its files may import beside the standard library
    "shared": {"harness", "suites"},
    "worker": {"harness", "suites", "torch", "numpy", "safetensors", "transformers", "pynvml"},
    "coordinator": {
        "harness", "suites", "reports", "numpy", "pandas", "pyarrow", "scipy", "rich", "typer", "tabulate", "jinja2",
        "markupsafe", "vl_convert", "psutil", "ruptures", "tomli", "sklearn", "tomllib", "pytest", "pytest_benchmark",
        "PIL", "datasets", "tokenizers", "tensorboard", "torch_tb_profiler",
    },
}  # fmt: skip
HARNESS_IN = {"shared": {"spec", "recipe", "work", "metrics", "names", "wire", "errors", "checkpoint"}}
HARNESS_IN["worker"] = HARNESS_IN["shared"] | {"worker"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layered() -> list:
    layers = {"shared": SHARED, "worker": WORKER, "coordinator": COORDINATOR}
    return [
        pytest.param(layer, path, id=str(path.relative_to(ROOT))) for layer, paths in layers.items() for path in paths
    ]


@pytest.mark.parametrize(("layer", "path"), layered())
def test_imports_go_down_the_layers(layer, path):
    for name in imports(path):
        top, _, rest = name.partition(".")
        assert top in MAY_IMPORT[layer] | sys.stdlib_module_names, f"{path} imports {name}"
        if layer in HARNESS_IN and top == "harness":
            assert rest.split(".")[0] in HARNESS_IN[layer], f"{path} imports {name}"
        if layer == "coordinator":
            assert not name.startswith("harness.worker"), f"{path} imports {name}"


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_workers_files_load_without_the_coordinators_libraries():
    modules = [module_of(path) for path in [*SHARED, *WORKER]]
    run(
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'pandas', 'pyarrow', 'scipy', 'rich', 'typer', 'vl_convert', 'psutil'}:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import importlib\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )


def test_the_command_line_and_all_of_the_coordinator_load_without_torch():
    modules = ["harness.cli", *(module_of(path) for path in COORDINATOR)]
    run(
        "import sys, importlib\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "assert 'torch' not in sys.modules\n"
    )


def test_importing_switches_nothing():
    modules = [module_of(path) for path in [*SHARED, *WORKER]]
    run(
        "import torch, os, random, importlib\n"
        "def state(): return (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(),\n"
        "    torch.backends.cuda.matmul.allow_tf32, torch.initial_seed(), dict(os.environ), random.getstate())\n"
        "torch.manual_seed(0); before = state()\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "assert state() == before\n"
    )


@pytest.mark.parametrize("path", [*SHARED, *WORKER, *COORDINATOR], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text()))
