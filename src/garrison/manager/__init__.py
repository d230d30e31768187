"""Shared objects that live in a server: at home, and across computers."""
