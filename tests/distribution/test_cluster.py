# SPDX-License-Identifier: Apache-2.0
"""`TF_CONFIG`: what is read of it, and what is wrong with it."""

import json

import pytest
import tensorflow as tf

from rigl.distribution import cluster, strategies
from rigl.distribution.cluster import Role

TRAINS, EVALUATES = Role.TRAINS, Role.EVALUATES
TWO = {"worker": ["a:1", "b:1"]}


def config(found, *task, **more):
  names = dict(zip(("type", "index"), task, strict=False))
  return json.dumps({"cluster": found, "task": names, **more})


@pytest.fixture
def read(monkeypatch):
  def read(text):
    monkeypatch.setenv("TF_CONFIG", text)
    return cluster.read()

  return read


@pytest.mark.parametrize(
  "text",
  [
    "",
    "  \n",
    "{}",
    "null",
    '{"cluster": {}}',
    '{"cluster": null, "task": null}',
    '{"cluster": {"worker": []}}',
    '{"task": {}}',
    config({}, "worker", 0),
    config({}, "master", "0"),
    config({}, "chief"),
  ],
)
def test_a_process_without_a_cluster_is_alone(read, text):
  found = read(text)
  assert found.workers == []
  assert found.role is TRAINS
  assert strategies.resolve("auto", "") in ("default", "mirrored")


@pytest.mark.parametrize(
  "text, kind, index, workers",
  [
    (config(TWO, "worker", 1), "worker", 1, ["a:1", "b:1"]),
    (config(TWO, "worker", "1"), "worker", 1, ["a:1", "b:1"]),
    (config({"chief": ["c:1"], **TWO}, "chief", 0), "chief", 0, None),
    (config({"master": ["c:1"], **TWO}, "master", 0), "chief", 0, None),
    (config({**TWO, "master": ["c:1"]}, "worker", 1), "worker", 1, None),
    (config({**TWO, "ps": ["p:1"]}, "worker", 0), "worker", 0, ["a:1", "b:1"]),
    (config({"worker": {"1": "b:1", "0": "a:1"}}, "worker", 0), "worker", 0, 2),
    (config({"worker": ["[::1]:80"]}, "worker", 0), "worker", 0, ["[::1]:80"]),
    (config(TWO, "worker", 0, job="x", environment="cloud"), "worker", 0, 2),
  ],
)
def test_a_process_that_trains_knows_the_others(
  read, text, kind, index, workers
):
  found = read(text)
  expected = {None: ["c:1", "a:1", "b:1"], 2: ["a:1", "b:1"]}
  if not isinstance(workers, list):
    workers = expected[workers]
  assert (found.task_type, found.index) == (kind, index)
  assert found.workers == workers
  assert found.role is TRAINS


@pytest.mark.parametrize(
  "found",
  [
    {},
    TWO,
    {**TWO, "evaluator": ["e:1"]},
    {"chief": ["c:1"], "ps": ["p:1"]},
    {"master": ["c:1"], **TWO},
  ],
)
@pytest.mark.parametrize("strategy", ["auto", "multi_worker"])
def test_an_evaluator_is_outside_of_the_training(read, found, strategy):
  evaluator = read(config(found, "evaluator", 0))
  assert evaluator.role is EVALUATES
  assert evaluator.workers == []
  assert strategies.resolve(strategy, "") in ("default", "mirrored")


@pytest.mark.parametrize("kind", ["ps", "tensorboard"])
def test_a_process_of_another_type_is_not_needed(read, kind):
  found = read(config({**TWO, kind: ["p:1"]}, kind, 0))
  assert found.role is Role.IS_NOT_NEEDED
  assert found.workers == []


def test_types_that_training_does_not_need_are_ignored_in_one_line(
  read, monkeypatch, caplog
):
  made = []
  monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", made.append)
  read(
    config(
      {"master": ["c:1"], **TWO, "ps": ["p:1"], "evaluator": ["e:1"]},
      "worker",
      "1",
    )
  )
  strategies.create_strategy()
  assert [record.getMessage() for record in caplog.records] == [
    "TF_CONFIG: training ignores the types `ps`."
  ]
  (resolver,) = made
  assert resolver.cluster_spec().as_dict() == {"chief": ["c:1"], **TWO}
  assert (resolver.task_type, resolver.task_id) == ("worker", 1)
  assert resolver.rpc_layer == "grpc"


@pytest.mark.parametrize(
  "text, problem",
  [
    ("{", "no JSON: Expecting property name"),
    ("worker", "no JSON: Expecting value"),
    ("[]", r"it must be an object, got \[\]"),
    ("3", "it must be an object, got 3"),
    ("[" * 100_000, "no JSON: maximum recursion depth"),
    ('{"cluster": ["a:1"]}', "`cluster` must be an object"),
    ('{"cluster": {"worker": "a:1"}}', "`cluster`.`worker` must be a list"),
    ('{"cluster": {"worker": [1]}}', "`worker` must be a list.*got 1"),
    ('{"cluster": {"worker": ["a"]}}', "must be HOST:PORT .*, got 'a'"),
    ('{"cluster": {"worker": ["a:x"]}}', "must be HOST:PORT .*, got 'a:x'"),
    ('{"cluster": {"worker": {"1": "a:1"}}}', "the indices 0, 1, ..., got"),
    ('{"cluster": {"worker": ["a:1", "a:1"]}}', "has 'a:1' twice"),
    (config({"chief": ["a:1", "b:1"]}, "chief", 0), "2 of the type `chief`"),
    (config({"master": ["a:1", "b:1"]}, "master", 0), "2 of the type `chief`"),
    (
      config({"master": ["a:1"], "chief": ["b:1"]}, "chief", 0),
      "both a `chief` and a `master`",
    ),
    (config(TWO), "`task`.`type` is missing"),
    (config(TWO, "worker"), "`task`.`index` is missing"),
    ('{"cluster": {"worker": ["a:1"]}}', "`task`.`type` is missing"),
    (config(TWO, "worker", 2), r"in \[0, 2\), the number of 'worker'.*got 2"),
    (config(TWO, "worker", -1), "a number from 0, got -1"),
    (config(TWO, "worker", "x"), "a number from 0, got 'x'"),
    (config(TWO, "worker", 1.0), "a number from 0, got 1.0"),
    (config(TWO, "worker", True), "a number from 0, got True"),
    (config(TWO, 3, 0), "`task`.`type` must be a string, got 3"),
    (config(TWO, "ps", 0), "'ps', which `cluster` does not have"),
    (config(TWO, "workr", 0), "'workr', which `cluster` does not have"),
    (config({}, "worker", 1), "'worker', which `cluster` does not have"),
    (config(TWO, "evaluator", 1), "there is one evaluator, 0, got 1"),
    ('{"task": 3}', "`task` must be an object, got 3"),
  ],
)
def test_what_is_wrong_is_said(read, text, problem):
  with pytest.raises(ValueError, match=problem) as error:
    read(text)
  message = str(error.value)
  assert message.startswith("The environment variable TF_CONFIG is wrong: ")
  assert message.endswith(f"got {text!r}.")
