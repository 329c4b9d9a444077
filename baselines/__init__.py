"""Agents to compare with: PQN, PPO and DQN with any memory, their command lines, and what they have
in common."""
