"""Training loops: compiled programs, checkpoints, resume and summaries.

It knows no task and no sparse-training method.
"""
