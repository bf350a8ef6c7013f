# SPDX-License-Identifier: Apache-2.0
"""The rules of the source tree: who imports whom, sizes, docstrings, paths."""

import ast
import functools
import graphlib
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
MAX_LINES = 450

# What each part of the package may import of the others. A new part needs a
# line here.
NOTHING = frozenset()
NUMBERS = frozenset(
  {
    "compression",
    "counting",
    "distribution",
    "mask_ops",
    "schedules",
    "sparse_utils",
    "structures",
  }
)
CORE = NUMBERS | {"configurable", "sparse_optimizers", "version"}
FILES = {"file_contents", "file_kinds", "files", "formats", "url_path"}
LIBRARY = CORE | FILES | {"config", "data", "layers", "training", "runners"}
MAY_IMPORT = {
  # rigl/__init__.py, which loads what it exports when it is first used.
  "": frozenset(
    {
      "compression",
      "counting",
      "exporting",
      "keras",
      "mask_ops",
      "schedules",
      "sparse",
      "sparse_optimizers",
      "sparse_utils",
      "version",
    }
  ),
  "cli": frozenset({"config"}),
  "missing_package": frozenset({"running_script"}),
  "running_script": NOTHING,
  "needs_tensorflow": NOTHING,
  "addresses": NOTHING,
  "checks": NOTHING,
  "tensor_names": NOTHING,
  "types": NOTHING,
  "version": NOTHING,
  "file_kinds": NOTHING,
  "url_path": NOTHING,
  "files": frozenset({"url_path"}),
  "file_contents": frozenset({"files"}),
  # Of files, what the compact ones are made of.
  "formats": frozenset(
    {"file_contents", "file_kinds", "files", "url_path", "version"}
  ),
  "configurable": NOTHING,
  "docstrings": NOTHING,
  "error_text": NOTHING,
  "structures": NOTHING,
  "mask_ops": frozenset({"structures"}),
  "schedules": frozenset({"configurable"}),
  "counting": frozenset({"schedules"}),
  "sparse_utils": frozenset({"counting", "structures"}),
  "pjrt": frozenset({"addresses"}),
  "compression": NOTHING,
  "distribution": frozenset({"addresses", "pjrt"}),
  "layers": NOTHING,
  "sparse_optimizers": NUMBERS | {"configurable", "docstrings"},
  # Its Keras layers, and no other module, need `keras`.
  "sparse": NUMBERS | {"keras", "sparse_optimizers"},
  # Of training, the files of checkpoints.
  "keras": NUMBERS
  | {"docstrings", "files", "formats", "sparse_optimizers", "training"},
  "config": CORE | FILES | {"running_script"},
  "data": frozenset({"distribution"}),
  "training": CORE | FILES | {"config", "data", "layers"},
  "runners": CORE | FILES | {"config", "data", "pjrt", "training"},
  "tpu_check": CORE | {"pjrt", "runners", "training"},
  "flops": NUMBERS | {"config", "file_contents", "files", "formats"},
  # Tasks import everything but each other.
  "mnist": LIBRARY | {"sparse"},
  "cifar_resnet": LIBRARY,
  "imagenet_resnet": LIBRARY,
  # What is made of all of them.
  "predict": LIBRARY | {"sparse", "mnist", "cifar_resnet", "imagenet_resnet"},
  # Keras for the networks that it compresses, and loaded only then.
  "exporting": LIBRARY | {"imagenet_resnet", "keras", "mnist", "predict"},
}
EVERYWHERE = {
  "checks",
  "error_text",
  "missing_package",
  "needs_tensorflow",
  "tensor_names",
  "types",
}
# Parts that are pure numpy.
WITHOUT_TENSORFLOW = {"version", "schedules", "sparse_utils", "counting"}
WITHOUT_TENSORFLOW |= {
  "addresses",
  "checks",
  "compression",
  "structures",
  "",
  "cli",
  "flops",
  "configurable",
  "docstrings",
  "error_text",
  "missing_package",
  "needs_tensorflow",
  "running_script",
  "tensor_names",
}
# Modules of these parts that read TensorFlow's graphs or Keras files.
USING_TENSORFLOW = {
  "rigl.compression",  # For a type, and only there.
  "rigl.compression.keras_layers",
  "rigl.compression.keras_model",
  "rigl.counting.graph_layers",
  "rigl.counting.graphs.constants",
  "rigl.counting.graphs.kernels",
  "rigl.counting.graphs.labels",
  "rigl.counting.graphs.loops",
  "rigl.counting.graphs.products",
  "rigl.counting.graphs.reader",
  "rigl.counting.graphs.uses",
  "rigl.counting.keras_layers",
  "rigl.flops.keras_files",
  "rigl.flops.saved_models",
}


def module_name(path):
  parts = path.relative_to(ROOT).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
  module_name(path): path for path in sorted((ROOT / "rigl").rglob("*.py"))
}


def part_of(module):
  """The first component below `rigl`; empty for `rigl` itself."""
  return (module.split(".") + [""])[1]


def imports_of(module, text, modules=SOURCES):
  """All imported modules; those of the package by their full names."""
  tree = ast.parse(text)
  package = module.split(".")
  if modules.get(module, pathlib.Path()).name != "__init__.py":
    package = package[:-1]
  found = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      base = package[: len(package) - node.level + 1] if node.level else []
      source = ".".join([*base, *filter(None, [node.module])])
      for alias in node.names:
        full = f"{source}.{alias.name}"
        found.add(full if full in modules else source)
  return found


IMPORTS = {
  module: imports_of(module, path.read_text())
  for module, path in SOURCES.items()
}


def upward_imports(imports):
  """(module, imported) of every import that the table does not allow."""
  return [
    (module, other)
    for module, others in imports.items()
    for other in sorted(others)
    if other.split(".")[0] == "rigl"
    and part_of(other) != part_of(module)
    and part_of(other) not in EVERYWHERE | MAY_IMPORT[part_of(module)]
  ]


def test_sources_are_found():
  assert {"rigl", "rigl.mask_ops", "rigl.training.loop"} <= set(SOURCES)
  assert "rigl.mask_ops" in IMPORTS["rigl.sparse_optimizers.drop_grow"]
  assert "rigl.sparse_optimizers" in IMPORTS["rigl.mnist.epoch_report"]


def test_every_part_has_a_line_in_the_table():
  assert {part_of(module) for module in SOURCES} <= set(MAY_IMPORT)


def test_no_upward_imports():
  assert upward_imports(IMPORTS) == []


def test_the_table_allows_no_cycle():
  graphlib.TopologicalSorter(MAY_IMPORT).prepare()


def test_documentation_lists_modules_below_what_they_import():
  page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
  part = page.partition("## Modules")[2].partition("## Glossary")[0]
  rows = [
    re.findall(r"`rigl\.(\w+)`", line.split("|")[1])
    for line in part.splitlines()
    if line.startswith("| `rigl.")
  ]
  place = {name: number for number, row in enumerate(rows) for name in row}
  # The package itself has no row.
  assert set(place) == set(MAY_IMPORT) - {""}
  for module in place:
    below = {n for n in MAY_IMPORT[module] if place[n] > place[module]}
    assert (module, below) == (module, set())


@pytest.mark.parametrize(
  "module, line",
  [
    ("rigl.mask_ops", "from rigl import sparse_optimizers"),
    ("rigl.sparse_optimizers.rigl", "from rigl.training import loop"),
    ("rigl.sparse_optimizers.rigl", "import rigl.config.settings"),
    ("rigl.sparse_optimizers.rigl", "from ..training.loop import Loop"),
    ("rigl.sparse_optimizers", "from ..config.method_flags import MethodFlags"),
    ("rigl.training.loop", "def f():\n  from rigl.mnist import mnist_data"),
    (
      "rigl.training.loop",
      "from rigl.mnist.mnist_settings import MnistSettings",
    ),
  ],
)
def test_an_upward_import_is_noticed(module, line):
  assert upward_imports({module: imports_of(module, line)})


def test_modules_do_not_import_in_a_cycle():
  own = {
    module: {other for other in others if other in SOURCES}
    for module, others in IMPORTS.items()
  }
  graphlib.TopologicalSorter(own).prepare()


def test_pure_parts_do_not_import_tensorflow():
  using = {
    module
    for module, others in IMPORTS.items()
    if part_of(module) in WITHOUT_TENSORFLOW
    and {"tensorflow", "keras"} & {other.split(".")[0] for other in others}
  }
  assert using == USING_TENSORFLOW


def test_modules_have_a_docstring_and_are_short():
  bad = [
    module
    for module, path in SOURCES.items()
    if not ast.get_docstring(ast.parse(path.read_text()))
    or len(path.read_text().splitlines()) >= MAX_LINES
  ]
  assert bad == []


def test_other_python_files_are_short():
  long = [
    path.relative_to(ROOT).as_posix()
    for folder in ("benchmarks", "examples", "scripts", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if len(path.read_text().splitlines()) >= MAX_LINES
  ]
  assert long == []


@functools.cache
def bound_names(path):
  """The names that a module has; None if it makes them when asked."""
  names = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
      names.add(node.name)
    elif isinstance(node, ast.Import | ast.ImportFrom):
      names |= {(n.asname or n.name).split(".")[0] for n in node.names}
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
      names.add(node.id)
  return None if "__getattr__" in names else names


def missing_imports(path):
  """What a file imports from the package that is not there."""
  found = []
  for node in ast.walk(ast.parse(path.read_text())):
    if not isinstance(node, ast.ImportFrom):
      continue
    parts = (node.module or "").split(".")
    if node.level or parts[0] != "rigl":
      continue
    place = ROOT.joinpath(*parts)
    source = place / "__init__.py" if place.is_dir() else f"{place}.py"
    source = pathlib.Path(source)
    names = bound_names(source) if source.exists() else set()
    for each in node.names:
      is_module = (place / f"{each.name}.py").exists() or (
        place / each.name
      ).is_dir()
      if not is_module and names is not None and each.name not in names:
        found.append(f"{path.name}: {node.module}.{each.name}")
  return found


def test_what_files_outside_of_the_package_import_is_there():
  folders = ("benchmarks", "examples", "scripts", "tests")
  missing = [
    name
    for folder in folders
    for path in sorted((ROOT / folder).rglob("*.py"))
    for name in missing_imports(path)
  ]
  assert missing == []


LICENSE = "# SPDX-License-Identifier: Apache-2.0"


def test_every_source_file_names_the_license():
  paths = [
    path
    for folder in ("benchmarks", "examples", "rigl", "scripts", "tests")
    for pattern in ("*.py", "*.sh")
    for path in sorted((ROOT / folder).rglob(pattern))
  ]
  paths += [ROOT / name for name in ("run.sh", "setup.py", ".ci/run")]
  missing = [
    path.relative_to(ROOT).as_posix()
    for path in paths
    if LICENSE not in path.read_text().splitlines()[:2]
  ]
  assert missing == []


# Directories of one person's or one machine's.
PRIVATE_PATH = re.compile(
  r"(?<![\w.}>-])/(?:home|root|Users|work|workspace)/\w"
)


@pytest.mark.parametrize(
  "text, private",
  [
    ("cd /" + "home/me/rigl", True),
    ("data: '/" + "work/rigl'", True),
    ("https://example.org/" + "work/rigl", False),
    ("../" + "work/rigl", False),
    ("path/to/" + "home/data", False),
  ],
)
def test_private_paths_are_told_from_others(text, private):
  assert bool(PRIVATE_PATH.search(text)) == private


def test_no_file_names_a_private_directory():
  patterns = ["*.py", "*.md", "*.sh", "*.toml", "*.gin", "*.txt", "*.yaml"]
  listed = subprocess.run(
    ["git", "ls-files", "-co", "--exclude-standard", *patterns, ".ci"],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  if listed.returncode:
    pytest.skip("not a git repository")
  names = [n for n in listed.stdout.splitlines() if (ROOT / n).is_file()]
  assert "run.sh" in names
  found = [
    name for name in names if PRIVATE_PATH.search((ROOT / name).read_text())
  ]
  assert found == []
