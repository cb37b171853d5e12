#!/usr/bin/env python3
# Copyright 2021 Ada Example
# SPDX-License-Identifier: MIT
"""One."""
