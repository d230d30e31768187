"""Storms: processes are killed at random moments under load, and nothing may be lost."""
