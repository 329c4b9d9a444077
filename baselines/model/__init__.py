"""The networks of the baselines, and their memory models."""
