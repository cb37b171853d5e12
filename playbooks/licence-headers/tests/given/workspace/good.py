"""A file.

SPDX-License-Identifier:  MIT
"""
