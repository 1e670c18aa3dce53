"""Dictionaries: sparse autoencoders, how they are trained, checkpointed, saved and measured."""
