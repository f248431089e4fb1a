"""Packs: members side by side in channels."""
