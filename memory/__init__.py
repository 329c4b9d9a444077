"""The certificate: proof by play that every POMDP needs memory.

For each environment it compares four policies on the POMDP: a random one, the best one found that
knows only the present frame, one that remembers all frames, and one that sees the whole state.
``python -m popgym_arcade.memory`` computes them; docs/memory.md has the table.
"""
