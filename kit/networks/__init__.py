"""Networks beside the five: layer by layer, folded for answering, and what they cost."""
