# SPDX-License-Identifier: Apache-2.0
"""Errors of files become one line, also those of TensorFlow."""

import errno
import os

import pytest
import tensorflow as tf

from rigl.config import system_errors


def written(path):
  tf.raw_ops.SaveV2(
    prefix=str(path), tensor_names=["x"], shape_and_slices=[""], tensors=[1.0]
  )


def described(action):
  with pytest.raises(Exception) as raised:  # noqa: B017, PT011 - Any of them.
    action()
  return system_errors.describe(raised.value)


@pytest.mark.parametrize(
  ("make", "named"),
  [
    (lambda p: written("/proc/x/y"), "/proc"),
    (lambda p: tf.io.read_file(str(p / "absent")), "No such file"),
    (lambda p: tf.io.read_file(str(p)), "Is a directory|is a directory"),
    (lambda p: tf.io.gfile.GFile("s3x://b/x").read(), "File system scheme"),
    (lambda p: tf.io.gfile.makedirs(str(p / "file" / "x")), "ot a directory"),
    ((lambda p: (p / "absent").read_text()), "absent"),
    (lambda p: os.mkdir(p), "File exists"),
  ],
)
def test_errors_of_files_are_one_line(tmp_path, make, named):
  (tmp_path / "file").write_text("")
  line = described(lambda: make(tmp_path))
  assert line is not None
  assert any(part in line for part in named.split("|"))
  assert "\n" not in line and "[Op:" not in line and "{{" not in line


@pytest.mark.parametrize(
  "number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO]
)
def test_the_texts_of_the_system_are_known(number):
  text = f"a/b; {os.strerror(number)}"
  for error in (
    OSError(number, os.strerror(number), "a/b"),
    tf.errors.ResourceExhaustedError(None, None, f"{text} [Op:SaveV2] name: "),
    tf.errors.UnknownError(None, None, f"{text}\n\t [[{{{{node save}}}}]]"),
  ):
    line = system_errors.describe(error)
    assert line is not None and os.strerror(number) in line and "a/b" in line
    assert "[Op:" not in line and "node" not in line


def test_damaged_records_are_errors_of_files(tmp_path):
  path = tmp_path / "records"
  path.write_bytes(b"no records" * 9)
  records = tf.data.TFRecordDataset(str(path))
  assert "corrupted" in (described(lambda: [*records]) or "")


@pytest.mark.parametrize(
  "error",
  [
    ValueError("No such file or directory"),
    TypeError("x"),
    tf.errors.InvalidArgumentError(None, None, "Incompatible shapes"),
    tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"),
    tf.errors.FailedPreconditionError(None, None, "uninitialized"),
  ],
)
def test_errors_of_programs_are_not(error):
  assert system_errors.describe(error) is None


def test_too_little_memory_of_a_device_of_jax_is_one_line():
  jax = pytest.importorskip("jax")
  text = "RESOURCE_EXHAUSTED: Out of memory allocating 64 bytes.\n  stack"
  at_run, other = jax.errors.JaxRuntimeError(text), ValueError("compiled")
  other.__cause__ = at_run
  for error in (at_run, other):
    line = system_errors.describe(error)
    assert "smaller batches" in line and "allocating 64 bytes.)" in line
  fault = jax.errors.JaxRuntimeError("INTERNAL: a fault of a program")
  assert system_errors.describe(fault) is None
