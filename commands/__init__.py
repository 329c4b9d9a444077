"""What all commands share: files written whole or not at all, and how a command ends."""
