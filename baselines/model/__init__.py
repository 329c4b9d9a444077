"""The networks of the baselines."""
