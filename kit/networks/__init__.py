"""Networks beside the five: layer by layer or by name, with batch norm folded for inference, and their FLOPs."""
