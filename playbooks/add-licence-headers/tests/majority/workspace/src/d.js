/** @jest-environment jsdom */
export const d = 1;
