"""Whether TPUs take our programs, asked on a machine without a TPU.

What is asked about which network is said by `scripts/tpu_compile_check.py`.
"""
