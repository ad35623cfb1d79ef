"""Trainings as processes of their own, which outlive the page and the studio."""
