// Copyright 2020 Somebody Else
// SPDX-License-Identifier: MIT OR Apache-2.0
export const t = 1;
