"""What architectures of one family share: losses, selection, revival of dead latents, layout of weights."""
