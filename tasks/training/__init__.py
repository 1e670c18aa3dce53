"""Training in steps: data in order, one step, many trainings, checkpoints, processes."""
