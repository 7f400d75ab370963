"""The network below every program of ours that asks others: bounded, cancellable, ignorant of what is carried."""
