# SPDX-License-Identifier: Apache-2.0
"""The promises of every method hold in states that Hypothesis draws.

CI draws the same few hundred each time. `RIGL_RANDOM_STATES=10000` draws that
many others; the counts that were tried are in docs/robustness.md.
"""

import os

import numpy as np
import pytest
import random_states
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_states import Twin, states
from sparse_methods import METHODS

LONG = int(os.environ.get("RIGL_RANDOM_STATES", "0"))


def drawn(number, share=1.0):
  """Settings: `number` states in CI, or a share of the long run's."""
  return settings(
    max_examples=max(int(LONG * share), 1) if LONG else number,
    derandomize=not LONG,
    database=None,
    deadline=None,
    suppress_health_check=[*HealthCheck],
  )


@drawn(200)
@given(states())
def test_eager_states_keep_the_promises(state):
  random_states.check(state, "numpy", "eager")


@pytest.mark.slow
@drawn(5, 0.01)
@given(states(), st.sampled_from(["xla", "batched"]))
def test_eager_states_keep_them_with_every_engine(state, engine):
  random_states.check(state, engine, "eager")


@pytest.mark.slow
@drawn(5, 0.02)
@given(states(), st.sampled_from(["xla", "batched", "numpy"]))
def test_graph_states_keep_the_promises(state, engine):
  random_states.check(state, engine, "graph")


@pytest.mark.slow
@drawn(4, 0.01)
@given(states(), st.sampled_from(["xla", "batched"]))
def test_compiled_states_keep_the_promises(state, engine):
  random_states.check(state, engine, "jit")


@pytest.mark.parametrize("name", [n for n in METHODS if n != "baseline"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (0, 0, 0, 0)])
def test_kernels_without_weights_are_refused(name, shape):
  state = random_states.State(
    **{
      **_example().__dict__,
      "method": name,
      "shapes": (shape, (2, 2)),
      "num_ones": (0, 2),
    }
  )
  with pytest.raises(ValueError, match=r"kernel of 'layer0' must"):
    Twin(state, "numpy", "eager")


def _example():
  return random_states.State(
    method="rigl",
    inner="sgd",
    dtype="float32",
    shapes=((2, 3),),
    num_ones=(3,),
    target=0.5,
    begin=0,
    length=-1,
    frequency=1,
    drop_fraction=0.3,
    anneal="constant",
    grow_init="zeros",
    weight_decay=0.0,
    is_used=False,
    gradients=("normal",) * 3,
    seed=0,
  )


@pytest.mark.parametrize(
  ("spoil", "named"),
  [
    (lambda twin: twin.kernels[0].assign(tf.ones([2, 3])), "off the mask"),
    (
      lambda twin: twin.kernels[0].assign(twin.kernels[0] * np.nan),
      "not finite",
    ),
    (
      lambda twin: twin.optimizer.layers[0].mask.assign(tf.ones([2, 3], bool)),
      "number of connections",
    ),
    (
      lambda twin: twin.optimizer.get_slot(twin.kernels[0], "momentum").assign(
        tf.ones([2, 3])
      ),
      "slot momentum",
    ),
  ],
)
def test_the_checks_find_what_is_wrong(spoil, named):
  twin = Twin(
    random_states.State(**{**_example().__dict__, "inner": "momentum"}),
    "numpy",
    "eager",
  )
  spoil(twin)
  with pytest.raises(AssertionError, match=named):
    twin.check()
    twin._check_counts(twin.counts())
