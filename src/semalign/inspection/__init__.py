"""What looks at trained runs and at our own models: their audit, their curves, and whether they use their text."""
