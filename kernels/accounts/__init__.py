"""What a run records beside its requests: the parts of their times, counts, histograms and the log of batches."""
