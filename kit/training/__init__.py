"""What surrounds the loop of `kit.trainer`: steering, history, cost, evaluation, state, prefetching."""
