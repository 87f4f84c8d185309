"""Images and labels: from a file, a download or an array to batches a network can take."""
