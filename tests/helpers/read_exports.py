# SPDX-License-Identifier: Apache-2.0
"""Computes with exported files where `rigl` cannot be imported.

  python read_exports.py FOLDER

FOLDER has exports that are named after their formats, and `inputs_FORMAT.npz`
with arguments by name. Results go to `outputs_FORMAT.npz`.
"""

import importlib.abc
import json
import pathlib
import sys


class _Refused(importlib.abc.MetaPathFinder):
  def find_spec(self, name, path=None, target=None):
    if name.partition(".")[0] == "rigl":
      raise ImportError("This process shall do without rigl.")


sys.meta_path.insert(0, _Refused())

import numpy as np  # noqa: E402 - After rigl is refused.


def read_savedmodel(place, inputs):
  import tensorflow as tf

  function = tf.saved_model.load(str(place)).signatures["serving_default"]
  arguments = {
    name: tf.constant(value.tolist() if value.dtype == object else value)
    for name, value in inputs.items()
  }
  return {name: v.numpy() for name, v in function(**arguments).items()}


def read_litert(place, inputs):
  try:
    from ai_edge_litert.interpreter import Interpreter
  except ImportError:
    import tensorflow as tf

    Interpreter = tf.lite.Interpreter  # noqa: N806 - It is a class.
  runner = Interpreter(model_path=str(place)).get_signature_runner()
  count = len(next(iter(inputs.values())))
  found = [
    {
      name: np.array(value)
      for name, value in runner(
        **{name: value[i : i + 1] for name, value in inputs.items()}
      ).items()
    }
    for i in range(count)
  ]
  return {name: np.concatenate([f[name] for f in found]) for name in found[0]}


def read_stablehlo(place, inputs):
  import tensorflow as tf
  from tensorflow.compiler.tf2xla.ops import gen_xla_ops

  manifest = json.loads((place / "rigl.json").read_text())
  with np.load(place / "weights.npz") as weights:
    stored = [weights[name] for name in manifest["weights"]]
  results = gen_xla_ops.xla_call_module(
    args=[*(inputs[i["name"]] for i in manifest["inputs"]), *stored],
    version=9,
    module=(place / "program.mlir").read_text(),
    Tout=[tf.as_dtype(o["dtype"]) for o in manifest["outputs"]],
    Sout=[o["shape"] for o in manifest["outputs"]],
    platforms=["CPU"],
  )
  names = [o["name"] for o in manifest["outputs"]]
  return {n: v.numpy() for n, v in zip(names, results, strict=True)}


def read_onnx(place, inputs):
  import onnxruntime

  session = onnxruntime.InferenceSession(
    place, providers=["CPUExecutionProvider"]
  )
  names = [result.name for result in session.get_outputs()]
  return dict(zip(names, session.run(names, inputs), strict=True))


READERS = {
  "savedmodel": read_savedmodel,
  "litert": read_litert,
  "stablehlo": read_stablehlo,
  "onnx": read_onnx,
}

if __name__ == "__main__":
  folder = pathlib.Path(sys.argv[1])
  for format_name, read in READERS.items():
    if (folder / format_name).exists():
      inputs_file = folder / f"inputs_{format_name}.npz"
      with np.load(inputs_file, allow_pickle=True) as file:
        values = {name: file[name] for name in file.files}
      results = read(folder / format_name, values)
      np.savez(folder / f"outputs_{format_name}.npz", **results)
  assert not any(name.partition(".")[0] == "rigl" for name in sys.modules)
