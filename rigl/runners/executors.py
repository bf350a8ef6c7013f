# SPDX-License-Identifier: Apache-2.0
"""The executor and the evaluation that belong to the devices of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rigl.data.source import Source
from rigl.distribution.jax_replicas import JaxReplicas
from rigl.distribution.replicas import Replicas
from rigl.runners.evaluations import Evaluation
from rigl.runners.jax.device_state import DeviceState
from rigl.runners.jax.executor import (
  JaxExecutor,
  MakeEvaluation,
  evaluation_programs,
)
from rigl.runners.program import Program
from rigl.runners.tensorflow_executor import TensorFlowExecutor
from rigl.training.executor import Executor
from rigl.training.train_state import TrainState
from rigl.types import Metrics, Variable


def make_executor(
  state: TrainState,
  source: Source,
  make_evaluation: MakeEvaluation,
  replicas: Replicas,
  *,
  jit_compile: bool = True,
  norms: bool = False,
  skips: bool = False,
) -> Executor:
  """Makes the executor of a run, in TensorFlow or JAX as its replicas are.

  Args:
    state: the train state.
    source: the training batches.
    make_evaluation: makes the evaluation, of programs that the executor makes.
    replicas: the devices.
    jit_compile: whether XLA compiles the programs; with JAX it always does.
    norms: whether the norms of gradient and weights are measured.
    skips: whether a step or a mask update whose numbers are not finite changes
      nothing.
  """
  if isinstance(replicas, JaxReplicas):
    return JaxExecutor(
      state, source, make_evaluation, replicas, norms=norms, skips=skips
    )
  return TensorFlowExecutor(
    state,
    source,
    make_evaluation(Program),
    replicas,
    jit_compile=jit_compile,
    norms=norms,
    skips=skips,
  )


def evaluates_variables(
  replicas: Replicas,
  variables: Iterable[Variable],
  make_evaluation: MakeEvaluation,
) -> Callable[[], Metrics]:
  """Makes a function that evaluates a network as its variables are.

  Args:
    replicas: the devices.
    variables: the variables of the network.
    make_evaluation: makes the evaluation, of programs that it is given.
  """
  if not isinstance(replicas, JaxReplicas):
    return make_evaluation(Program)
  state = DeviceState(replicas, variables)
  evaluation: Evaluation = make_evaluation(evaluation_programs(state))

  def evaluate() -> Metrics:
    state.forget()
    return evaluation()

  return evaluate
