"""Networks beside the five: described layer by layer, with batch norm folded for inference, and their FLOPs."""
