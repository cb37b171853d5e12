"""The four main jobs, each a function from records to records that awaits the seams in order."""
