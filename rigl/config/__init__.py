"""Configuration of a script: flags, gin, and how a script starts."""
