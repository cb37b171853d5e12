"""Transcripts that coding agents leave on this machine, read as they are: nothing is written, nothing is sent."""
