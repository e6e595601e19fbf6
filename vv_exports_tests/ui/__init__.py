"""Tests of what a person meets in a browser."""
