"""Cleaning: characters, lines and personal data, rewritten with every edit counted."""
