"""For tools that need a setup.py; everything is said in pyproject.toml."""

from setuptools import setup

setup()
