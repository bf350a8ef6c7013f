# SPDX-License-Identifier: Apache-2.0
"""Dead channels of small networks, worked out by hand."""

import numpy as np

from rigl.compression.liveness import Liveness, Node
from rigl.compression.operations import Flatten, Opaque, Product, Source, Sum


def product(node, *rows, bias=None):
  """A product whose kernel has these rows, one for each input."""
  kernel = np.array(rows, float)
  bias = np.zeros(kernel.shape[1]) if bias is None else np.array(bias, float)
  return Node(Product(kernel, bias), [node])


def kept(liveness, *nodes):
  return [liveness.kept(node).astype(int).tolist() for node in nodes]


def test_dead_neurons_make_others_dead():
  source = Node(Source(3), [])
  # Neuron 0 lives, 1 has no inputs, 2 no outputs, 3 leads to a dead one.
  first = product(source, [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1])
  second = product(first, [1, 0], [1, 0], [0, 0], [0, 1])
  last = product(second, [1], [0])
  nodes = [source, first, second, last]
  liveness = Liveness(nodes, [last])
  assert kept(liveness, *nodes) == [[1, 0, 0], [1, 0, 0, 0], [1, 0], [1]]


def test_a_constant_neuron_goes_and_has_its_value():
  source = Node(Source(2), [])
  first = product(source, [1, 0], [1, 0], bias=[3, 5])
  last = product(first, [1], [2], bias=[1])
  liveness = Liveness([source, first, last], [last])
  np.testing.assert_array_equal(liveness.constant(first), [np.nan, 5])
  assert kept(liveness, source, first, last) == [[1, 1], [1, 0], [1]]


def test_tensors_that_are_added_lose_the_same_channels():
  source = Node(Source(2), [])
  # Channel 2 is that of neither, channel 1 that of one.
  one = product(source, [1, 1, 0], [0, 0, 0])
  other = product(source, [0, 0, 0], [1, 0, 0])
  added = Node(Sum(3), [one, other])
  last = product(added, [1], [1], [1])
  nodes = [source, one, other, added, last]
  liveness = Liveness(nodes, [last])
  assert kept(liveness, one, other, added) == [[1, 1, 0]] * 3
  assert kept(liveness, source) == [[1, 1]]


def test_what_is_not_known_keeps_all_that_it_reads():
  source = Node(Source(2), [])
  first = product(source, [1, 0], [0, 0])
  unknown = Node(Opaque(2), [first])
  last = product(unknown, [0], [0])
  liveness = Liveness([source, first, unknown, last], [last])
  assert kept(liveness, first, unknown) == [[1, 1], [1, 1]]


def test_one_channel_stays_where_all_are_dead():
  source = Node(Source(2), [])
  first = product(source, [1, 1], [1, 1])
  last = product(first, [0], [0])
  nodes = [source, first, last]
  assert kept(Liveness(nodes, [last]), *nodes) == [[1, 0], [1, 0], [1]]
  without = Liveness(nodes, [last], keeps_one=False)
  assert kept(without, *nodes) == [[0, 0], [0, 0], [1]]


def test_a_channel_of_an_image_stays_at_all_places_or_at_none():
  source = Node(Source(2), [])
  image = product(source, [1, 0], [0, 1])
  flat = Node(Flatten(places=2, inputs=2), [image])
  last = product(flat, [0], [0], [0], [1])
  liveness = Liveness([source, image, flat, last], [last])
  assert kept(liveness, image, flat) == [[0, 1], [0, 1, 0, 1]]
