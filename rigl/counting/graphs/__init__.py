# SPDX-License-Identifier: Apache-2.0
"""Reads the graph of a forward pass: which operation uses which variable.

`reader` walks through a graph and all functions, branches and loops inside;
`uses` decides what an operation does with a variable; `products` knows the
operations that multiply; `constants` computes what depends on no example.
"""
