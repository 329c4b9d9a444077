"""The soak: every environment's rules, checked over millions of steps."""
