"""Tests of the containers: the same for every backend."""
