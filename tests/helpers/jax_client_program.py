# SPDX-License-Identifier: Apache-2.0
"""Uses the client of JAX on one and on four devices, and checks what it does.

  PYTHONPATH=rigl/pjrt python tests/helpers/jax_client_program.py CACHE

It needs NumPy and JAX alone, so that it also shows whether another version of
JAX has the private names that the client uses. CACHE is a directory.
"""

import sys

import jax
import jax_client
import numpy as np

SUM = """module @program attributes {mhlo.input_output_alias = [{alias = {
kind = "may_alias", parameter_index = array<i64>, parameter_number = 1 : i64},
output_index = array<i64: 1>}], mhlo.is_dynamic = false} {
  func.func @main(%arg0: tensor<3xf32>, %arg1: tensor<3xf32>)
      -> (tensor<3xf32>, tensor<3xf32>) {
    %0 = "stablehlo.all_reduce"(%arg0) ({
    ^bb0(%a: tensor<f32>, %b: tensor<f32>):
      %c = stablehlo.add %a, %b : tensor<f32>
      stablehlo.return %c : tensor<f32>
    }) {replica_groups = dense<GROUP> : tensor<1xCOUNTxi64>}
      : (tensor<3xf32>) -> tensor<3xf32>
    %1 = stablehlo.add %arg1, %0 : tensor<3xf32>
    return %0, %1 : tensor<3xf32>, tensor<3xf32>
  }
}"""

jax.config.update("jax_num_cpu_devices", 4)
for count in (1, 4):
  client = jax_client.Client("cpu", count, cache=sys.argv[1])
  assert client.num_replicas == client.num_local == count
  assert (client.platform, client.num_hosts, client.host) == ("cpu", 1, 0)
  own = [np.full(3, i + 1, np.float32) for i in range(count)]
  own = client.put_each(own) if count > 1 else client.put(own[0])
  state = client.put(np.zeros(3, np.float32))
  group = str([list(range(count))])
  text = SUM.replace("GROUP", group).replace("COUNT", str(count))
  run = client.compile(text)
  for _ in range(3):  # The second call takes another way to its results.
    before = state
    total, state = run([own, state])
    assert before.is_deleted() and not own.is_deleted()
  wanted = count * (count + 1) / 2
  assert float(total[0]) == wanted
  values = client.values(state)
  assert [v.tolist() for v in values] == [[3 * wanted] * 3] * count
try:
  client.compile("module {")
except ValueError as error:
  print("refused:", error)
print("passed with JAX", jax.__version__)
