"""What a run keeps beside the requests: times by part, counts, histograms and the log of batches."""
