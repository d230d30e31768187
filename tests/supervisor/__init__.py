"""The supervisor's decisions, without a process."""
