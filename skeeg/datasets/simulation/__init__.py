"""Simulated recordings: subjects, signals, a head model, and motor imagery and execution made of them."""
