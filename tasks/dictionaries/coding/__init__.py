"""What methods share of encoding: sparse pairs, selection, gradients, kinds of codes."""
