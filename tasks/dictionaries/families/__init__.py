"""Shared code of related architectures: losses, selection, revival of dead latents, layout of weights."""
