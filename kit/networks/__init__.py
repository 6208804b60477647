"""Networks beside the five: described layer by layer or by name, with batch norm folded for inference, and their FLOPs."""
