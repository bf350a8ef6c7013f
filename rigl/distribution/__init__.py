"""Training on several devices: strategies, and reductions over replicas."""
