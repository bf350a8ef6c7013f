# SPDX-License-Identifier: Apache-2.0
"""Wrong values of the flags that scripts share: one line, exit code 1, no file.

The script of CIFAR-10 stands for all, because it has every shared flag.
"""

import sys

import gin
import pytest
from cifar_runs import TINY
from script_runs import Shell, refusal

from rigl.cifar_resnet import resnet_train_eval
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.config.device_flags import DeviceFlags
from rigl.config.gin_files import parse_gin
from rigl.config.method_flags import MethodFlags
from rigl.config.training_length import LengthFlags
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.mnist.mnist_settings import MnistSettings

BINDING = "--gin_bindings="


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
  """Runs a command that must be refused before anything is written."""
  work = tmp_path / "work"
  work.mkdir()
  monkeypatch.chdir(work)
  shell = Shell(resnet_train_eval, CifarSettings, monkeypatch, capsys)
  return lambda *arguments: refusal(shell, work, "--train_dir=run", *arguments)


def test_the_scripts_share_these_flags():
  for settings in (MnistSettings, CifarSettings, ImagenetSettings):
    assert issubclass(settings, MethodFlags)
    assert issubclass(settings, DeviceFlags)
  for settings in (CifarSettings, ImagenetSettings):
    assert issubclass(settings, LengthFlags)


@pytest.mark.parametrize(
  ("argument", "named"),
  [
    # Flags that do not parse.
    ("--training_method=foo", "--training_method=foo"),
    ("--mask_init_method=foo", "--mask_init_method=foo"),
    ("--end_sparsity=much", "--end_sparsity=much"),
    ("--max_steps=1.5", "--max_steps=1.5"),
    ("--prune_last_layer=perhaps", "--prune_last_layer=perhaps"),
    ("--strategy=foo", "--strategy=foo"),
    ("--runner=foo", "--runner=foo"),
    ("--jit_compile=foo", "--jit_compile=foo"),
    ("--trainig_method=rigl", "training_method"),
    ("stray", "'stray'"),
    # Out of range.
    ("--end_sparsity=1.2", "`end_sparsity` must be in [0.0, 1.0), got 1.2"),
    ("--end_sparsity=1", "`end_sparsity`"),
    ("--end_sparsity=-0.1", "`end_sparsity`"),
    ("--end_sparsity=nan", "`end_sparsity`"),
    ("--drop_fraction=1.5", "`drop_fraction`"),
    ("--s_momentum=1.5", "`s_momentum`"),
    ("--rigl_acc_scale=inf", "`rigl_acc_scale`"),
    ("--maskupdate_frequency=0", "`maskupdate_frequency`"),
    ("--maskupdate_begin_step=-1", "`maskupdate_begin_step`"),
    ("--seed=-1", "`seed`"),
    ("--seed=2147483648", "`seed`"),
    ("--virtual_devices=-1", "`virtual_devices`"),
    ("--virtual_devices=65", "`virtual_devices`"),
    ("--training_steps_multiplier=-1", "`training_steps_multiplier`"),
    ("--training_steps_multiplier=inf", "`training_steps_multiplier`"),
    ("--training_steps_multiplier=0", "* `max_steps` must be at least 1"),
    # Unknown words.
    ("--drop_fraction_anneal=foo", "`drop_fraction_anneal`"),
    ("--drop_fraction_anneal=exponential_x", "`drop_fraction_anneal`"),
    ("--grow_init=foo", "`grow_init`"),
    ("--grow_init=zeros_2", "`grow_init`"),
    ("--grow_init=random_normal_0", "`grow_init`"),
    # Gin.
    ("--gin_config=nowhere.gin", "nowhere.gin"),
    ("--gin_config=/proc", "`--gin_config`"),
    (BINDING + "CifarSettings.sede = 1", "sede"),
    (BINDING + "CifarSetings.seed = 1", "CifarSetings"),
    (BINDING + "CifarSettings.seed =", "--gin_bindings"),
    (BINDING + "CifarSettings.seed = %seed", "seed"),
    (BINDING + "CifarSettings.seed = 1.5", "`seed` must be of type int"),
    (BINDING + "CifarSettings.end_sparsity = 'a'", "`end_sparsity`"),
    (BINDING + "CifarSettings.runner = 'foo'", "`runner`"),
    (BINDING + "SparseRigLOptimizer.noise_std = -1", "`noise_std`"),
    (BINDING + "SparseRigLOptimizer.nosie_std = 0", "nosie_std"),
    (BINDING + "SparseRigLOptimizer.noise_std = 'a'", "SparseRigLOptimizer"),
    (BINDING + "SparseRigLOptimizer.grow_init = 3", "`grow_init` must be of"),
    (BINDING + "SparseRigLOptimizer.seed = None", "`seed` must be of type int"),
    (BINDING + "SparseRigLOptimizer.use_locking = 1", "must be of type bool"),
    (BINDING + "SparseRigLOptimizer.weight_decay_filter = 'a'", "Callable"),
    (BINDING + "SparseRigLOptimizer.mask_engine = ['xla']", "mask_engine"),
    (BINDING + "X = (3,", "EOF in multi-line statement (line 1)"),
    (BINDING + "X = '''", "EOF in multi-line string (line"),
    (BINDING + "X = {[]: 1}", "unhashable"),
    (BINDING + "X = " + 5000 * "9", "9 ... 9"),
    (BINDING + "X = nan", "'nan'"),
    (BINDING + "CifarSettings.seed = @CifarSettings()", "refers to itself"),
    (BINDING + "X = %X\nCifarSettings.seed = %X", "refers to itself"),
    # Modules that gin would run.
    (BINDING + "import no_such_module", "`--gin_imports`"),
    (BINDING + "import os", "`import os` would run a module outside of rigl"),
    (BINDING + "import rigl_of_others", "outside of rigl"),
    (BINDING + "from os import system", "`from os import system`"),
    (BINDING + "from __gin__ import dynamic_registration", "`--gin_imports`"),
    (BINDING + "include 'email/mime.gin'", "no file 'email/mime.gin'"),
    (BINDING + "import rigl.no_such_module", "no_such_module"),
  ],
)
def test_wrong_argument_is_named(refused, argument, named):
  # RigL unless the argument says otherwise, for it looks at most of them.
  assert named in refused(*TINY, "--training_method=rigl", argument)


@pytest.mark.parametrize(
  ("arguments", "named"),
  [
    (("--training_method=rigl", "--maskupdate_end_step=5"), "`end_step`"),
    (("--training_method=set", "--grow_init=grad_sign"), "`grow_init`"),
    (("--training_method=set", "--mask_init_method=str"), "`default_sparsity`"),
    (
      ("--training_method=scratch", "--mask_init_method="),
      "`mask_init_method` or `load_mask_dir` must be given",
    ),
  ],
)
def test_flags_that_do_not_go_together_are_refused(refused, arguments, named):
  assert named in refused(*TINY, "--maskupdate_begin_step=6", *arguments)


@pytest.mark.parametrize(
  "content",
  [
    b"CifarSettings.sede = 1",
    b"\xff\xfe\x00",
    b"X = (3,\n",
    b"X = '\x00'\n",
    b"X = " + b"(" * 10**5,
    b"import os\n",
    b"# caf\xe9\n",
  ],
)
def test_wrong_gin_file_is_named(refused, tmp_path, content):
  path = tmp_path / "wrong.gin"
  path.write_bytes(content)
  assert "wrong.gin" in refused(*TINY, f"--gin_config={path}")
  outer = tmp_path / "outer.gin"
  outer.write_text("include 'wrong.gin'\n")
  assert "wrong.gin" in refused(*TINY, f"--gin_config={outer}")


def test_missing_include_is_named(refused, tmp_path):
  path = tmp_path / "top.gin"
  path.write_text("include 'absent.gin'\n")
  assert "absent.gin" in refused(*TINY, f"--gin_config={path}")


def test_files_that_include_each_other_are_refused(refused, tmp_path):
  for name, others in (("a", "a"), ("b", "c"), ("c", "b")):
    (tmp_path / f"{name}.gin").write_text(f"include '{others}.gin'\n")
  (tmp_path / "d0.gin").write_text("")
  for n in range(1, 30):  # 2 ** 29 files
    text = 2 * f"include 'd{n - 1}.gin'\n"
    (tmp_path / f"d{n}.gin").write_text(text)
  for name, named in (
    ("a", "includes itself"),
    ("b", "includes itself"),
    ("d29", "more than 1000 files"),
  ):
    path = tmp_path / f"{name}.gin"
    assert named in refused(*TINY, f"--gin_config={path}")


def test_no_module_runs_before_a_file_is_refused(
  refused, tmp_path, monkeypatch
):
  (tmp_path / "spy.py").write_text("open('ran', 'w').write('ran')")
  monkeypatch.syspath_prepend(tmp_path)
  for name, text in (("one", "import spy"), ("two", "include 'spy/x.gin'")):
    path = tmp_path / f"{name}.gin"
    path.write_text(f"X = 1\n{text}\n")
    refused(*TINY, f"--gin_config={path}")
  refused(*TINY, BINDING + "import spy")
  assert "spy" not in sys.modules


def test_modules_run_if_the_user_allows_it(tmp_path, monkeypatch):
  (tmp_path / "gin_spy.py").write_text(
    "import gin\n@gin.configurable\ndef gin_spied(value=1):\n  return value\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  parse_gin([], ["import gin_spy", "gin_spied.value = 7"], imports=True)
  assert sys.modules["gin_spy"].gin_spied() == 7
  gin.clear_config()
