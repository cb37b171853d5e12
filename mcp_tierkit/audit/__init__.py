"""What a coding agent's own transcripts cost, and what of it could have been cheaper. Pure arithmetic and grouping."""
