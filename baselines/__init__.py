"""Baseline agents: PQN, PPO and DQN with any memory, and the commands that train and use them."""
