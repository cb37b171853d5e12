"""Playbooks: solved tasks that run without a model, from the folder that is found to the change that is applied."""
