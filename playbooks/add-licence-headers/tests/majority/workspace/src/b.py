# Copyright 2023-2024 Ada Example
# SPDX-License-Identifier: MIT

B = 1
