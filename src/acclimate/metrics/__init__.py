"""Figures with intervals, computed from predictions and targets alone."""
