"""The fast parts of training on a CPU: dense products, selection and sums over kept pairs."""
