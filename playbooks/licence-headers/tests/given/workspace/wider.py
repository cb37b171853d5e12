# SPDX-License-Identifier: MIT AND Apache-2.0
A = 1
